import { describe, expect, test } from 'bun:test';
import type { Demand, Permit } from '../admission/admission.ts';
import { ServerError } from '../base/errors.ts';
import type { BatchJob } from '../batcher/micro-batcher.ts';
import type { TextOutcome } from '../batcher/pending-request.ts';
import { createFakeBackend } from '../testing/fake-backend.ts';
import { VirtualClock } from '../testing/virtual-clock.ts';
import { headSet } from '../vectors/output.ts';
import type { EncodeRequest, EncodeResult, Parts } from './contract.ts';
import { createEncode } from './encode.ts';

const EMPTY = { tokenIds: Int32Array.of(0, 2), tokenCount: 2, isTruncated: false };

/**
 * The journey over parts that the test holds in its hands; what it tells the queue is recorded.
 */
function stand(
  options: {
    outcome?: TextOutcome;
    kept?: number;
    servedBy?: string;
    standIn?: string;
    textTokensMax?: number;
    /** Of the backend, for each token of work. */
    msPerToken?: number;
  } = {},
) {
  const { outcome = { dense: new Float32Array(8) }, kept = 5, servedBy, standIn } = options;
  const demands: Demand[] = [];
  const releases: true[] = [];
  const worked: number[] = [];
  const prefixed: (readonly string[])[] = [];
  const permit: Permit = {
    tokenized: (count) => void worked.push(count),
    release: () => void releases.push(true),
  };
  const backend = createFakeBackend();
  const { textTokensMax = Number.POSITIVE_INFINITY } = options;
  const capabilities = () => ({ ...backend.capabilities(), textTokensMax });
  const encode = createEncode({
    admission: {
      async enter(demand: Demand) {
        demands.push(demand);
        return permit;
      },
    },
    tokenizer: {
      reason: '',
      async tokenize(texts: readonly string[]) {
        // What empty texts look like is learned once; the test's own texts are none.
        if (texts[0] === 'q: ') return texts.map(() => EMPTY);
        prefixed.push(texts);
        return texts.map((text) => {
          if (text.endsWith(': ')) return EMPTY;
          const isTruncated = text.length > kept;
          return { tokenIds: new Int32Array(kept).fill(5), tokenCount: text.length, isTruncated };
        });
      },
    },
    batcher: {
      foreground: { drain: { tokensPerMs: 1 / (options.msPerToken ?? 1), isMeasured: true } },
      async submit({ tokenIds, planned, cancellation }: BatchJob) {
        planned?.(tokenIds.reduce((sum, ids) => sum + ids.length, 0));
        if (cancellation.ended !== undefined) throw cancellation.ended;
        return { outcomes: tokenIds.map(() => outcome), queueMs: 0, inferMs: 0, servedBy };
      },
    },
    backend: { ...backend, standIn, capabilities },
    manifest: {
      id: 'm',
      dimension: 8,
      tokenCountMax: 50,
      prefixes: { query: 'q: ', passage: 'p: ' },
    },
    clock: new VirtualClock(),
    limits: { requestTimeoutMs: 1000, emptyTexts: 'encode', textCharactersMax: 1e6 },
  } as unknown as Parts);
  return { encode, demands, releases, worked, prefixed };
}

function request(change: Partial<EncodeRequest> = {}): EncodeRequest {
  return {
    texts: ['a'],
    heads: headSet(['dense']),
    inputType: 'query',
    truncate: true,
    batchTextsMax: undefined,
    valueCountMax: 1e9,
    signal: undefined,
    fieldOf: () => 'query',
    ...change,
  };
}

const codeOf = (promise: Promise<unknown>): Promise<string | undefined> =>
  promise.then(
    () => undefined,
    (error: ServerError) => error.code,
  );

test('a text that takes more memory than there is is refused by name, also when it may be cut', async () => {
  const { encode, releases } = stand({ textTokensMax: 4 });
  const error = await encode(request()).catch((thrown: ServerError) => thrown);
  expect(error).toMatchObject({ code: 'EMB_TEXT_TOO_LONG', details: { limit: 4, value: 5 } });
  expect((error as ServerError).message).toContain('EMBEDDED_MEMORY_MB');
  expect(releases).toEqual([true]);
  expect(await codeOf(stand({ textTokensMax: 5 }).encode(request()))).toBeUndefined();
});

test('a long text asks for all of its tokens, and for the work of those that are kept', async () => {
  const { encode, demands } = stand();
  await encode(request({ texts: ['a'.repeat(3000), 'a'] }));
  expect(demands[0]).toMatchObject({ textCount: 2, tokenCount: 1005, workTokenCount: 53 });
});

describe('what the queue is told', () => {
  test('the tokens that the model sees, and once that the place is free', async () => {
    const { encode, releases, worked } = stand();
    await encode(request({ texts: ['a', 'b'] }));
    expect(worked).toEqual([10]);
    expect(releases).toHaveLength(1);
  });

  test('work that takes twice its deadline is not begun, and says how long it would take', async () => {
    const texts = Array.from({ length: 100 }, () => 'a');
    const late = stand({ msPerToken: 4.1 });
    const error = await late.encode(request({ texts })).catch((thrown: ServerError) => thrown);
    expect(error).toMatchObject({
      code: 'EMB_DEADLINE_EXCEEDED',
      details: { limit: 1000, value: 2050 },
    });
    expect((error as ServerError).message).toContain('Send fewer texts');
    expect(late.releases).toHaveLength(1);
    expect(await codeOf(stand({ msPerToken: 3.9 }).encode(request({ texts })))).toBeUndefined();
    // A query is tried at any speed.
    expect(await codeOf(stand({ msPerToken: 1e6 }).encode(request()))).toBeUndefined();
  });

  test.each<[string, Parameters<typeof stand>[0], Partial<EncodeRequest>, string]>([
    ['refused for its tokens', {}, { texts: ['abcdef'], truncate: false }, 'EMB_TEXT_TOO_LONG'],
    ['refused for its reply', {}, { valueCountMax: 7 }, 'EMB_REPLY_TOO_LARGE'],
    [
      'failed by the backend',
      { outcome: new ServerError('EMB_BACKEND_TIMEOUT', 'Too late.') },
      {},
      'EMB_BACKEND_TIMEOUT',
    ],
  ])('a request that is %s gives its place back', async (_what, options, change, code) => {
    const { encode, releases } = stand(options);
    expect(await codeOf(encode(request(change)))).toBe(code);
    expect(releases).toHaveLength(1);
  });
});

describe('work on the outputs', () => {
  test('is asked before any is computed, and done before the place is given back', async () => {
    const { encode, releases } = stand({ kept: 7 });
    const done = Promise.withResolvers<void>();
    const seen: unknown[] = [];
    const followUp = {
      plan: (keptCounts: readonly number[]) => void seen.push(keptCounts),
      async run(result: EncodeResult) {
        seen.push(result.rows?.length);
        await done.promise;
      },
    };
    const reply = encode(request({ texts: ['a', 'b'], followUp }));
    await new VirtualClock().settle();
    expect(seen).toEqual([[7, 7], 2]);
    expect(releases).toEqual([]);
    done.resolve();
    expect((await reply).rows).toHaveLength(2);
    expect(releases).toHaveLength(1);
  });

  test('that is refused, or fails, gives the place back as well', async () => {
    const { encode, releases } = stand();
    const fail = (): never => {
      throw new ServerError('EMB_QUEUE_FULL', 'No room.');
    };
    const run = async () => undefined;
    expect(await codeOf(encode(request({ followUp: { plan: fail, run } })))).toBe('EMB_QUEUE_FULL');
    const plan = () => undefined;
    const late = { plan, run: async () => fail() };
    expect(await codeOf(encode(request({ followUp: late })))).toBe('EMB_QUEUE_FULL');
    // The second was computed: that counts, though nobody got it.
    expect(releases).toHaveLength(2);
  });

  test('has a query first, with a prefix of its own', async () => {
    const { encode, prefixed } = stand();
    await encode(request({ texts: ['a', 'b'], inputType: 'passage', firstInputType: 'query' }));
    await encode(request({ texts: ['a', 'b'], inputType: 'passage' }));
    expect(prefixed).toEqual([
      ['q: a', 'p: b'],
      ['p: a', 'p: b'],
    ]);
  });
});

test('who stood in is told, and nobody else', async () => {
  const standInOf = async (options: { servedBy: string; standIn?: string }) =>
    (await stand(options).encode(request())).standIn;
  expect(await standInOf({ servedBy: 'embedded', standIn: 'embedded' })).toBe('embedded');
  expect(await standInOf({ servedBy: 'http://triton:8000', standIn: 'embedded' })).toBeUndefined();
  expect(await standInOf({ servedBy: 'embedded' })).toBeUndefined();
});
