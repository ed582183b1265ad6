import { expect, test } from 'bun:test';
import { ERRORS, type ErrorCode, ServerError, shuttingDown } from '../base/errors.ts';
import { createLog } from '../base/log.ts';
import { errorReply } from './error-reply.ts';

const log = createLog({ level: 'error', write: () => undefined });

const toldOf = (error: ServerError) => {
  const { status, headers } = errorReply(error, 'id', log);
  return [status, headers.get('retry-after'), headers.get('retry-after-ms')];
};

// Caught: it was so before, of a server that ends and of an embedded model without a worker.
test('every 503 says when to come back', () => {
  const away = Object.keys(ERRORS).filter((code) => ERRORS[code as ErrorCode].status === 503);
  expect(away.length).toBeGreaterThan(1);
  for (const code of away) {
    expect(toldOf(new ServerError(code as ErrorCode, 'It is away.'))).toEqual([503, '1', '1000']);
  }
  expect(toldOf(shuttingDown())).toEqual([503, '1', '1000']);
});

test('what an error says of it counts, and no other status makes it up', () => {
  const full = new ServerError('EMB_QUEUE_FULL', 'It is full.', { retryAfterMs: 1234 });
  expect(toldOf(full)).toEqual([429, '2', '1234']);
  expect(toldOf(new ServerError('EMB_BACKEND_FAILED', 'It failed.'))).toEqual([502, null, null]);
});
