import { describe, expect, test } from 'bun:test';
import { answerRows, startScriptedClient } from '../testing/scripted-client.ts';
import {
  type ScriptedRequest,
  scriptedReply,
  scriptedRow,
} from '../testing/scripted-encode-server.ts';
import {
  APIEncoder,
  APIEncoderError,
  type APIEncoderOptions,
  type EncodeOptions,
  type EncodeProgress,
} from './api-encoder.ts';

function textsOf(request: ScriptedRequest): readonly string[] {
  return request.body.query ?? [];
}

function someTexts(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `статья ${index}`);
}

describe('encode', () => {
  test('one text is one row', async () => {
    await using scripted = startScriptedClient([answerRows]);
    const { server, encoder } = scripted;
    expect(await encoder.encode('договор')).toEqual(scriptedRow('договор'));
    expect(server.requests.map(({ path, body }) => [path, body])).toEqual([
      ['/encode', { query: ['договор'] }],
    ]);
    const { headers } = server.requests[0];
    expect(headers.get('accept')).toBe('application/msgpack');
    expect(headers.get('content-type')).toBe('application/json');
  });

  // Planted and caught: every reply placed at the start; replies in the order of arrival.
  test('many texts are views of one matrix, in order, though the replies come out of order', async () => {
    const held: (() => void)[] = [];
    await using scripted = startScriptedClient(
      [
        (request) => {
          const { promise, resolve } = Promise.withResolvers<Response>();
          held.push(() => resolve(scriptedReply(textsOf(request))));
          // The last of four is answered first.
          if (held.length === 4 || request.index === 14)
            for (const go of held.splice(0).reverse()) go();
          return promise;
        },
      ],
      { requestTextsMax: 7, concurrency: 4 },
    );
    const { server, encoder } = scripted;
    const texts = someTexts(100);
    const rows = await encoder.encode(texts);
    expect(rows).toEqual(texts.map(scriptedRow));
    expect(new Set(rows.map((row) => row.buffer)).size).toBe(1);
    expect(rows[99].byteOffset).toBe(99 * 3 * 4);
    expect(server.requests.length).toBe(15);
    expect(server.concurrencyPeak).toBe(4);
  });

  test('of no texts sends nothing', async () => {
    await using scripted = startScriptedClient([answerRows]);
    const { server, encoder } = scripted;
    expect(await encoder.encode([])).toEqual([]);
    expect(await encoder.encodeHeads([])).toEqual([]);
    expect(server.requests.length).toBe(0);
  });

  test("options of the constructor and of the call arrive under the server's names", async () => {
    await using scripted = startScriptedClient([answerRows], {
      truncate: false,
      batchSize: 4,
      apiKey: 'k',
      headers: { 'X-A': 'b' },
    });
    const { server, encoder } = scripted;
    await encoder.encode('а', { truncate: true, inputType: 'passage' });
    await encoder.encode('а');
    expect(server.requests.map(({ body }) => body)).toEqual([
      { query: ['а'], truncate: true, input_type: 'passage', batch_size: 4 },
      { query: ['а'], truncate: false, batch_size: 4 },
    ]);
    expect(server.requests[0].headers.get('authorization')).toBe('Bearer k');
    expect(server.requests[0].headers.get('x-a')).toBe('b');
  });

  test('reports progress after each request', async () => {
    await using scripted = startScriptedClient([answerRows], {
      requestTextsMax: 4,
      concurrency: 1,
    });
    const { encoder } = scripted;
    const seen: EncodeProgress[] = [];
    await encoder.encode(someTexts(10), { onProgress: (progress) => seen.push(progress) });
    const counts = seen.map(({ textCountDone, textCount }) => [textCountDone, textCount]);
    expect(counts).toEqual([
      [4, 10],
      [8, 10],
      [10, 10],
    ]);
    expect(seen.every(({ elapsedMs }) => elapsedMs >= 0)).toBe(true);
  });

  /** Caught, planted: options of calls not looked at, or those of a client alone. */
  test('an option that is none stops the call before anything is sent', async () => {
    await using scripted = startScriptedClient([answerRows]);
    const { server, encoder } = scripted;
    const wrong = { input_type: 'passage' } as EncodeOptions;
    const error = { code: 'CLIENT_ARGUMENT_INVALID', field: 'input_type' };
    const message = 'input_type is no option of a call: inputType is one.';
    await expect(encoder.encode('a', wrong)).rejects.toMatchObject({ ...error, message });
    await expect(encoder.score('a', ['b'], wrong)).rejects.toMatchObject(error);
    await expect(encoder.encodeStream(['a'], wrong).next()).rejects.toMatchObject(error);
    expect(server.requests.length).toBe(0);
    await encoder.encode(['a'], { truncate: undefined, ...{ inputtype: undefined } });
  });

  test('a bad text stops the call before anything is sent', async () => {
    await using scripted = startScriptedClient([answerRows], {
      requestTextsMax: 1,
      concurrency: 1,
    });
    const { server, encoder } = scripted;
    const calls: [unknown, string, string][] = [
      [['a', 'b\udc00'], 'EMB_TEXT_NOT_UNICODE', 'texts[1]'],
      [['a', 7], 'CLIENT_ARGUMENT_INVALID', 'texts[1]'],
      [undefined, 'CLIENT_ARGUMENT_INVALID', 'text'],
    ];
    for (const [texts, code, field] of calls) {
      const error = await encoder.encode(texts as string).catch((caught: unknown) => caught);
      expect(error).toBeInstanceOf(APIEncoderError);
      expect(error).toMatchObject({ code, field });
    }
    expect(server.requests.length).toBe(0);
  });
});

describe('the other calls', () => {
  const answers: Record<string, unknown> = {
    '/health': { status: 'ok' },
    '/get_vector_dim': { vector_dim: 1024, model: 'bge-m3' },
  };

  test('health and the dimension, under both names', async () => {
    await using scripted = startScriptedClient([({ path }) => Response.json(answers[path])]);
    const { encoder } = scripted;
    expect(await encoder.health()).toEqual({ status: 'ok' });
    expect(await encoder.getVectorDim()).toBe(1024);
    expect(await encoder.get_vector_dim()).toBe(1024);
  });

  test.each(['{}', 'null', '7', '<html>'])('a reply of %s is an error', async (body) => {
    await using scripted = startScriptedClient([() => new Response(body)]);
    const { encoder } = scripted;
    const broken = { code: 'CLIENT_REPLY_INVALID' };
    await expect(encoder.health()).rejects.toMatchObject(broken);
    await expect(encoder.getVectorDim()).rejects.toMatchObject(broken);
  });

  test('a path in the address stands before the routes', async () => {
    await using scripted = startScriptedClient([
      ({ path }) => Response.json(answers[path.replace('/a/b', '')]),
    ]);
    const { server } = scripted;
    for (const ending of ['', '/', '/?', '/#']) {
      const encoder = new APIEncoder(`${server.url}/a/b${ending}`);
      await encoder.health();
      expect(server.requests.at(-1)?.path).toBe('/a/b/health');
    }
  });
});

describe('new APIEncoder', () => {
  test.each<[string, APIEncoderOptions, string]>([
    ['localhost:8080', {}, 'baseUrl'],
    ['ftp://localhost', {}, 'baseUrl'],
    ['http://me@localhost', {}, 'baseUrl'],
    ['http://:password@localhost', {}, 'baseUrl'],
    ['http://localhost?a=1', {}, 'baseUrl'],
    ['', {}, 'baseUrl'],
    ['http://localhost', { concurrency: 0 }, 'concurrency'],
    ['http://localhost', { requestTextsMax: 1.5 }, 'requestTextsMax'],
    ['http://localhost', { timeoutMs: Infinity }, 'timeoutMs'],
    ['http://localhost', { totalTimeoutMs: 2 ** 31 }, 'totalTimeoutMs'],
    ['http://localhost', { retriesMax: -1 }, 'retriesMax'],
    ['http://localhost', { hedgeAfterMs: 0 }, 'hedgeAfterMs'],
    ['http://localhost', { apiKey: 'two\nlines' }, 'headers'],
    // As JavaScript may have them; in TypeScript the compiler tells.
    ['http://localhost', { inputtype: 'passage' } as APIEncoderOptions, 'inputtype'],
    ['http://localhost', { api_key: 'key' } as APIEncoderOptions, 'api_key'],
    ['http://localhost', { signal: AbortSignal.abort() } as APIEncoderOptions, 'signal'],
    ['http://localhost', null as unknown as APIEncoderOptions, 'options'],
  ])('refuses %s with %p and names %s', (url, options, field) => {
    let thrown: unknown;
    try {
      new APIEncoder(url, options);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(APIEncoderError);
    expect(thrown).toMatchObject({ code: 'CLIENT_ARGUMENT_INVALID', field });
  });
});
