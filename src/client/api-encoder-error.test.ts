import { describe, expect, test } from 'bun:test';
import { ServerError } from '../base/errors.ts';
import { createLog } from '../base/log.ts';
import { errorReply } from '../http/error-reply.ts';
import { errorOfReply, retryAfterMsOf } from './api-encoder-error.ts';

async function errorOf(response: Response) {
  const body = new Uint8Array(await response.arrayBuffer());
  return errorOfReply({ status: response.status, headers: response.headers, body });
}

describe('errorOfReply', () => {
  test("reads the server's own error, as the server writes it", async () => {
    const log = createLog({ level: 'error', write: () => undefined });
    const told = new ServerError('EMB_QUEUE_FULL', 'The queue is full.', {
      field: 'query',
      limit: 8192,
      value: 9000,
      retryAfterMs: 1500,
    });
    const error = await errorOf(errorReply(told, 'id-7', log));
    expect(error).toMatchObject({
      name: 'APIEncoderError',
      message: 'The queue is full.',
      code: 'EMB_QUEUE_FULL',
      status: 429,
      retryable: true,
      requestId: 'id-7',
      field: 'query',
      limit: 8192,
      value: 9000,
      retryAfterMs: 1500,
    });
  });

  test.each([
    [408, true],
    [429, true],
    [500, true],
    [502, true],
    [503, true],
    [504, true],
    [400, false],
    [401, false],
    [404, false],
    [501, false],
  ])('judges a status %d of somebody else by itself: retryable %p', async (status, retryable) => {
    for (const body of [
      '<html>Bad gateway</html>',
      '',
      'null',
      '{"error":"busy"}',
      '{"error":{}}',
    ]) {
      const error = await errorOf(new Response(body, { status }));
      expect(error.code).toBe('CLIENT_HTTP_FAILED');
      expect([error.status, error.retryable]).toEqual([status, retryable]);
      expect(error.message).toContain(String(status));
    }
  });

  test('takes no code that is not of this server', async () => {
    const body = { error: { code: 'insufficient_quota', message: 'no', retryable: true } };
    const error = await errorOf(Response.json(body, { status: 403 }));
    expect(error.code).toBe('CLIENT_HTTP_FAILED');
    expect(error.retryable).toBe(false);
  });
});

describe('retryAfterMsOf', () => {
  test.each<[Record<string, string>, number | undefined]>([
    [{}, undefined],
    [{ 'retry-after': '3' }, 3000],
    [{ 'retry-after': '3', 'retry-after-ms': '250' }, 250],
    [{ 'retry-after': '3', 'retry-after-ms': 'soon' }, 3000],
    [{ 'retry-after': '-3' }, undefined],
    [{ 'retry-after': 'Infinity' }, undefined],
    [
      { 'retry-after': 'Tue, 01 Jul 2025 10:00:07 GMT', date: 'Tue, 01 Jul 2025 10:00:00 GMT' },
      7000,
    ],
    [{ 'retry-after': 'Tue, 01 Jul 2025 10:00:00 GMT', date: 'Tue, 01 Jul 2025 10:00:07 GMT' }, 0],
    [{ 'retry-after': 'Tue, 01 Jul 2025 10:00:07 GMT' }, undefined],
  ])('%p is %p ms', (headers, ms) => {
    expect(retryAfterMsOf(new Headers(headers))).toBe(ms);
  });
});
