import { describe, expect, test } from 'bun:test';
import {
  type Answer,
  answerNever,
  answerRows,
  answerUnavailable,
  startScriptedClient,
} from '../testing/scripted-client.ts';
import { scriptedError, scriptedReply, scriptedRow } from '../testing/scripted-encode-server.ts';
import { until } from '../testing/until.ts';

const queueFull =
  (headers: Record<string, string>): Answer =>
  () =>
    scriptedError(429, { code: 'EMB_QUEUE_FULL', retryable: true }, headers);

describe('retries', () => {
  // Planted and caught: Retry-After ignored, retry-after-ms read as seconds, no wait at all.
  test('come when the server wants them, and not before', async () => {
    await using scripted = startScriptedClient([
      queueFull({ 'retry-after': '30' }),
      queueFull({ 'retry-after': '1', 'retry-after-ms': '120' }),
      answerRows,
    ]);
    const { clock, server, encoder, pass } = scripted;
    const row = encoder.encode('a');
    await until('the first wait', () => clock.delaysMs.includes(30_000));
    await clock.advance(29_999);
    expect(server.requests.length).toBe(1);
    await clock.advance(1);
    await pass(120);
    expect(await row).toEqual(scriptedRow('a'));
    expect(server.requests.length).toBe(3);
    expect(clock.plannedCount).toBe(0);
  });

  test('double their wait when the server names none', async () => {
    await using scripted = startScriptedClient([
      answerUnavailable,
      answerUnavailable,
      answerUnavailable,
      answerRows,
    ]);
    const { encoder, pass, server } = scripted;
    const row = encoder.encode('a');
    for (const delayMs of [500, 1000, 2000]) await pass(delayMs);
    expect(await row).toEqual(scriptedRow('a'));
    expect(server.requests.length).toBe(4);
  });

  test("end with the server's last words", async () => {
    await using scripted = startScriptedClient([answerUnavailable], { retriesMax: 2 });
    const { encoder, pass, server } = scripted;
    const call = encoder.encode('a').catch((error: unknown) => error);
    await pass(500);
    await pass(1000);
    expect(await call).toMatchObject({
      code: 'EMB_BACKEND_UNAVAILABLE',
      status: 503,
      retryable: true,
      requestId: 'scripted-1',
    });
    expect(server.requests.length).toBe(3);
  });

  test('are not made when the fault is the request', async () => {
    const tooLong: Answer = () =>
      scriptedError(422, {
        code: 'EMB_TEXT_TOO_LONG',
        retryable: false,
        message: 'query[1] has 9000 tokens, the limit of m is 512.',
        field: 'query[1]',
        limit: 512,
        value: 9000,
      });
    await using scripted = startScriptedClient([answerRows, tooLong], {
      requestTextsMax: 3,
      concurrency: 1,
    });
    const { encoder, server } = scripted;
    await expect(encoder.encode(['a', 'b', 'c', 'd', 'e', 'f'])).rejects.toMatchObject({
      code: 'EMB_TEXT_TOO_LONG',
      // The text in the words of the caller, who knows nothing of requests.
      message: 'texts[4] has 9000 tokens, the limit of m is 512.',
      field: 'texts[4]',
      limit: 512,
      value: 9000,
    });
    expect(server.requests.length).toBe(2);
  });

  test('are not made for health: the question is about now', async () => {
    await using scripted = startScriptedClient([answerUnavailable]);
    const { encoder, server } = scripted;
    await expect(encoder.health()).rejects.toMatchObject({ code: 'EMB_BACKEND_UNAVAILABLE' });
    expect(server.requests.length).toBe(1);
  });

  test('are not waited for beyond the end of the call', async () => {
    await using scripted = startScriptedClient([queueFull({ 'retry-after': '90' })], {
      totalTimeoutMs: 60_000,
    });
    const { encoder, server } = scripted;
    const error = { code: 'EMB_QUEUE_FULL', retryAfterMs: 90_000 };
    await expect(encoder.encode('a')).rejects.toMatchObject(error);
    expect(server.requests.length).toBe(1);
  });
});

describe('time', () => {
  test('one try that hangs is given up and made again', async () => {
    await using scripted = startScriptedClient([answerNever, answerRows], { timeoutMs: 7000 });
    const { encoder, pass, sees, server } = scripted;
    const row = encoder.encode('a');
    await sees(1);
    await pass(7000);
    await pass(500);
    expect(await row).toEqual(scriptedRow('a'));
    await until('the hanging one was aborted', () => server.requests[0].signal.aborted);
  });

  test('a server that always hangs is a timeout', async () => {
    await using scripted = startScriptedClient([answerNever], { timeoutMs: 7000, retriesMax: 1 });
    const { encoder, pass, sees } = scripted;
    const call = encoder.encode('a').catch((error: unknown) => error);
    await sees(1);
    await pass(7000);
    await pass(500);
    await sees(2);
    await pass(7000, 2);
    expect(await call).toMatchObject({ code: 'CLIENT_TIMEOUT', limit: 7000, retryable: true });
  });

  // Caught: it was told nothing, and computed what nobody waited for any more.
  test('the server is told of each try how long it is waited for', async () => {
    const answerDim: Answer = () => Response.json({ vector_dim: 3 });
    const answers = [answerUnavailable, answerRows, answerRows, answerRows, answerDim];
    await using scripted = startScriptedClient(answers, { totalTimeoutMs: 64_000 });
    const { encoder, pass, server } = scripted;
    const row = encoder.encode('a');
    await pass(500);
    await row;
    await encoder.encode('a', { timeoutMs: 100 });
    await encoder.encode('a', { timeoutMs: 1 });
    await encoder.getVectorDim();
    const told = server.requests.map(({ headers }) => headers.get('x-timeout-ms'));
    expect(told).toEqual(['62000', '61500', '95', '1', null]);
  });

  test("the caller's own header stays", async () => {
    const headers = { 'X-Timeout-Ms': '123' };
    await using scripted = startScriptedClient([answerRows], { headers });
    await scripted.encoder.encode('a');
    expect(scripted.server.requests[0].headers.get('x-timeout-ms')).toBe('123');
  });

  test('a call has a total, waits and tries together', async () => {
    await using scripted = startScriptedClient([answerUnavailable, answerNever]);
    const { clock, encoder, pass, sees } = scripted;
    const call = encoder.encode('a', { totalTimeoutMs: 9000 });
    const outcome = call.catch((error: unknown) => error);
    await pass(500);
    await sees(2);
    await clock.advance(8499);
    expect(clock.plannedCount).toBeGreaterThan(0);
    await clock.advance(1);
    expect(await outcome).toMatchObject({ code: 'CLIENT_TOTAL_TIMEOUT', limit: 9000 });
    expect(clock.plannedCount).toBe(0);
  });

  test('of a stream the total is for each request', async () => {
    const held = Promise.withResolvers<Response>();
    await using scripted = startScriptedClient([() => held.promise, answerNever], {
      totalTimeoutMs: 9000,
      requestTextsMax: 1,
      concurrency: 1,
    });
    const { clock, encoder, sees } = scripted;
    const rows = encoder.encodeStream(['a', 'b']);
    const first = rows.next();
    await sees(1);
    await clock.advance(8999);
    held.resolve(scriptedReply(['a']));
    expect((await first).value).toEqual(scriptedRow('a'));
    const last = rows.next().catch((error: unknown) => error);
    await sees(2);
    await clock.advance(8999);
    expect(clock.plannedCount).toBeGreaterThan(0);
    await clock.advance(1);
    expect(await last).toMatchObject({ code: 'CLIENT_TOTAL_TIMEOUT' });
  });

  test('of a stream of all heads, the question for them has that total too', async () => {
    await using scripted = startScriptedClient([answerNever], { totalTimeoutMs: 9000 });
    const { clock, encoder, sees } = scripted;
    const texts = encoder.encodeHeadsStream(['a']);
    const first = texts.next().catch((error: unknown) => error);
    await sees(1);
    await clock.advance(9000);
    expect(await first).toMatchObject({ code: 'CLIENT_TOTAL_TIMEOUT' });
    expect(clock.plannedCount).toBe(0);
  });

  test('a hedge is sent when it is asked for, and the faster counts', async () => {
    await using scripted = startScriptedClient([answerNever, answerRows], { hedgeAfterMs: 40 });
    const { encoder, pass, sees, server } = scripted;
    const row = encoder.encode('a');
    await sees(1);
    await pass(40);
    expect(await row).toEqual(scriptedRow('a'));
    await until('the slower was aborted', () => server.requests[0].signal.aborted);
  });
});
