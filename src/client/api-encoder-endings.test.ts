import { describe, expect, test } from 'bun:test';
import { startRawHttpServer } from '../testing/raw-http-server.ts';
import {
  type Answer,
  answerNever,
  answerRows,
  answerUnavailable,
  startScriptedClient,
  WatchedClock,
} from '../testing/scripted-client.ts';
import { scriptedError, scriptedReply, scriptedRow } from '../testing/scripted-encode-server.ts';
import { until } from '../testing/until.ts';
import { APIEncoder } from './api-encoder.ts';

describe('ending', () => {
  test("the caller's signal: rejects with its reason, stops everything, leaves no timer", async () => {
    await using scripted = startScriptedClient([answerNever], {
      requestTextsMax: 1,
      concurrency: 3,
    });
    const { clock, encoder, server, sees } = scripted;
    const caller = new AbortController();
    const call = encoder.encode(['a', 'b', 'c', 'd', 'e'], { signal: caller.signal });
    await sees(3);
    const reason = new Error('the tab was closed');
    caller.abort(reason);
    expect(await call.catch((error: unknown) => error)).toBe(reason);
    expect(clock.plannedCount).toBe(0);
    await until('all were aborted', () => server.requests.every(({ signal }) => signal.aborted));
    expect(server.requests.length).toBe(3);
  });

  test('a signal that has fired sends nothing; one that fires in a wait ends it', async () => {
    await using scripted = startScriptedClient([answerUnavailable]);
    const { clock, encoder, server } = scripted;
    const reason = new Error('gone');
    const early = encoder.encode('a', { signal: AbortSignal.abort(reason) });
    expect(await early.catch((error: unknown) => error)).toBe(reason);
    expect(server.requests.length).toBe(0);
    const caller = new AbortController();
    const call = encoder.encode('a', { signal: caller.signal }).catch((error: unknown) => error);
    await until('it waits', () => clock.delaysMs.includes(500));
    caller.abort(reason);
    expect(await call).toBe(reason);
    expect(clock.plannedCount).toBe(0);
  });

  test('close: ends what runs, a stream too, and refuses what comes', async () => {
    await using scripted = startScriptedClient([answerRows, answerNever], {
      requestTextsMax: 1,
      concurrency: 1,
    });
    const { clock, encoder, server, sees } = scripted;
    const stream = encoder.encodeStream(['a', 'b']);
    await stream.next();
    const streamed = stream.next().catch((error: unknown) => error);
    const call = encoder.encode('c').catch((error: unknown) => error);
    await sees(3);
    await encoder.close();
    const closed = { code: 'CLIENT_CLOSED', retryable: false };
    expect(await streamed).toMatchObject(closed);
    expect(await call).toMatchObject(closed);
    await expect(encoder.encode('d')).rejects.toMatchObject(closed);
    await expect(encoder.health()).rejects.toMatchObject(closed);
    await expect(encoder.encodeStream(['e']).next()).rejects.toMatchObject(closed);
    await encoder.close();
    expect(clock.plannedCount).toBe(0);
    expect(server.requests.length).toBe(3);
  });

  test('a failed request ends the others of its call, not those of another', async () => {
    const broken: Answer = () =>
      scriptedError(422, { code: 'EMB_FIELD_INVALID', retryable: false });
    await using scripted = startScriptedClient([answerNever, answerNever, broken], {
      requestTextsMax: 1,
      concurrency: 2,
    });
    const { encoder, server, sees } = scripted;
    const other = encoder.encode('other').catch((error: unknown) => error);
    await sees(1);
    const call = encoder.encode(['a', 'b', 'c']);
    await expect(call).rejects.toMatchObject({ code: 'EMB_FIELD_INVALID' });
    await until('its neighbour was aborted', () => server.requests[1].signal.aborted);
    expect(server.requests.length).toBe(3);
    expect(server.requests[0].signal.aborted).toBe(false);
    await encoder.close();
    await other;
  });

  test('what onProgress throws ends the call', async () => {
    await using scripted = startScriptedClient([answerRows]);
    const { encoder } = scripted;
    const onProgress = (): void => {
      throw new Error('the disk is full');
    };
    await expect(encoder.encode(['a'], { onProgress })).rejects.toThrow('the disk is full');
  });
});

describe('replies that are wrong', () => {
  test.each<[string, Answer]>([
    ['no msgpack', () => new Response(new Uint8Array([0xc1, 1, 2]))],
    ['nothing', () => new Response('')],
    ['a page of somebody else', () => new Response('<html>login</html>')],
    ['a row too few', () => scriptedReply(['a'])],
    ['a row too many', () => scriptedReply(['a', 'b', 'c'])],
  ])('%s: an error, and never a row', async (_, answer) => {
    await using scripted = startScriptedClient([answer]);
    const { encoder, server } = scripted;
    await expect(encoder.encode(['a', 'b'])).rejects.toMatchObject({
      code: 'CLIENT_REPLY_INVALID',
      retryable: false,
    });
    expect(server.requests.length).toBe(1);
  });

  test('two models in one call: an error, and never a mixture', async () => {
    const other: Answer = ({ body }) => scriptedReply(body.query ?? [], { model: 'another' });
    await using scripted = startScriptedClient([answerRows, other], {
      requestTextsMax: 1,
      concurrency: 1,
    });
    const { encoder } = scripted;
    const mixed = { code: 'CLIENT_REPLY_INVALID' };
    await expect(encoder.encode(['a', 'b'])).rejects.toMatchObject(mixed);
  });
});

describe('connections', () => {
  test('nobody there: tried again, then told with the address', async () => {
    await using scripted = startScriptedClient([answerRows], { retriesMax: 1 });
    const { server, encoder, pass } = scripted;
    await server.close();
    const call = encoder.encode('a').catch((error: unknown) => error);
    await pass(500);
    const error = (await call) as Error;
    const known = { code: 'CLIENT_CONNECTION_REFUSED', retryable: true };
    expect(error).toMatchObject({ ...known, tryCount: 2, elapsedMs: 500 });
    const told = `Nothing listens at ${server.url}: the connection was refused (2 tries in 0.5 s).`;
    expect(error.message).toBe(told);
    expect(error.cause).toBeDefined();
  });

  test('a reply that breaks off is asked for again', async () => {
    const whole = await scriptedReply(['a']).bytes();
    let requestCount = 0;
    const problems: string[] = [];
    const server = await startRawHttpServer({
      port: 0,
      onProblem: (problem) => problems.push(problem),
      onRequest(_, socket) {
        requestCount++;
        socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${whole.length}\r\n\r\n`);
        if (requestCount === 1) socket.end(whole.subarray(0, 20));
        else socket.write(whole);
      },
    });
    const clock = new WatchedClock();
    const encoder = new APIEncoder(`http://127.0.0.1:${server.port}`, { clock, random: () => 0 });
    const row = encoder.encode('a');
    await until('it waits', () => clock.delaysMs.includes(500));
    await clock.advance(500);
    expect(await row).toEqual(scriptedRow('a'));
    expect(requestCount).toBe(2);
    expect(problems).toEqual([]);
    await encoder.close();
    await server.stop();
  });
});
