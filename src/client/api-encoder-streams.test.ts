import { describe, expect, test } from 'bun:test';
import { answerRows, startScriptedClient } from '../testing/scripted-client.ts';
import {
  type ScriptedRequest,
  scriptedReply,
  scriptedRow,
} from '../testing/scripted-encode-server.ts';
import { until } from '../testing/until.ts';
import { APIEncoderError, type EncodeProgress } from './api-encoder.ts';

function textsOf(request: ScriptedRequest): readonly string[] {
  return request.body.query ?? [];
}

function someTexts(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `статья ${index}`);
}

describe('streams', () => {
  test('progress knows the count of an array, and of no other source', async () => {
    await using scripted = startScriptedClient([answerRows]);
    const { encoder } = scripted;
    const texts = ['один', 'два', 'три'];
    for (const [source, textCount] of [
      [texts, 3],
      [texts.values(), undefined],
    ] as const) {
      const seen: EncodeProgress[] = [];
      const rows = encoder.encodeStream(source, { onProgress: (told) => seen.push(told) });
      expect(await Array.fromAsync(rows)).toHaveLength(3);
      expect(seen.at(-1)).toMatchObject({ textCountDone: 3, textCount });
    }
  });

  test('texts in, rows out, in order; what is read ahead is bounded', async () => {
    await using scripted = startScriptedClient([answerRows], {
      requestTextsMax: 10,
      concurrency: 3,
    });
    const { server, encoder } = scripted;
    let pulledCount = 0;
    async function* corpus(): AsyncGenerator<string> {
      for (const text of someTexts(1000)) {
        pulledCount++;
        yield text;
      }
    }
    let takenCount = 0;
    let aheadMax = 0;
    for await (const row of encoder.encodeStream(corpus())) {
      expect(row).toEqual(scriptedRow(`статья ${takenCount}`));
      takenCount++;
      aheadMax = Math.max(aheadMax, pulledCount - takenCount);
    }
    expect(takenCount).toBe(1000);
    expect(server.requests.length).toBe(100);
    expect(server.concurrencyPeak).toBeLessThanOrEqual(3);
    // Two requests for each in flight, the one that is being handed out, and the first text of the
    // next.
    expect(aheadMax).toBeLessThanOrEqual(7 * 10 + 1);
  });

  test('with heads, from a plain array', async () => {
    await using scripted = startScriptedClient([answerRows], { requestTextsMax: 2 });
    const { encoder } = scripted;
    const counts: number[] = [];
    for await (const text of encoder.encodeHeadsStream(['a', 'bb', 'ccc'], {
      outputs: ['dense'],
    })) {
      counts.push(text.tokenCount);
    }
    expect(counts).toEqual([1, 2, 3]);
  });

  test('a bad text fails the stream with its place in the corpus', async () => {
    await using scripted = startScriptedClient([answerRows], { requestTextsMax: 2 });
    const { encoder } = scripted;
    const consume = async (): Promise<void> => {
      for await (const _ of encoder.encodeStream(['a', 'b', 'c', 'd\ud800']));
    };
    await expect(consume()).rejects.toMatchObject({
      code: 'EMB_TEXT_NOT_UNICODE',
      field: 'texts[3]',
    });
  });

  test('a string is no stream of texts', async () => {
    await using scripted = startScriptedClient([answerRows]);
    const { encoder } = scripted;
    expect(() => encoder.encodeStream('text')).toThrow('for one text use encode');
    expect(() => encoder.encodeStream(null as never)).toThrow(APIEncoderError);
  });

  test('leaving the loop leaves no request running', async () => {
    await using scripted = startScriptedClient(
      [
        (request) =>
          request.index === 0 ? scriptedReply(textsOf(request)) : new Promise(() => undefined),
      ],
      { requestTextsMax: 1, concurrency: 3 },
    );
    const { server, encoder } = scripted;
    for await (const _ of encoder.encodeStream(someTexts(50))) break;
    await until('the server has seen them hang up', () =>
      server.requests.slice(1).every(({ signal }) => signal.aborted),
    );
    expect(server.requests.length).toBeLessThanOrEqual(4);
  });
});
