import { afterEach, describe, expect, test } from 'bun:test';
import {
  type Answer,
  answerRows,
  answerUnavailable,
  WatchedClock,
} from '../testing/scripted-client.ts';
import {
  type ScriptedEncodeServer,
  scriptedError,
  scriptedRow,
  startScriptedEncodeServer,
} from '../testing/scripted-encode-server.ts';
import { until } from '../testing/until.ts';
import { APIEncoder, type APIEncoderOptions } from './api-encoder.ts';

/**
 * One client and several servers.
 *
 * Faults that were planted by hand, and that this suite caught: the server with the most work is
 * picked, one that refused is asked again at once, a foreign model is not noticed when it comes
 * back, servers that differ at the start are taken for one.
 */

interface Pod {
  readonly server: ScriptedEncodeServer;
  /** What it does with texts from now on. */
  answer: Answer;
  /** Which model it says that it serves. */
  model: string;
  /** When it says so. */
  says: Promise<void>;
  /** Texts that it was sent, one list for each request. */
  readonly texts: string[][];
  infoCount: number;
}

interface Fleet {
  readonly pods: readonly Pod[];
  readonly encoder: APIEncoder;
  readonly clock: WatchedClock;
}

const open: Fleet[] = [];

afterEach(async () => {
  for (const { encoder, pods } of open.splice(0)) {
    await encoder.close();
    for (const { server } of pods) await server.close();
  }
});

function startPod(): Pod {
  const pod: Pod = {
    server: startScriptedEncodeServer(async (request) => {
      if (request.path === '/info') {
        pod.infoCount++;
        await pod.says;
        return Response.json({ model: { id: pod.model, dim: 3 }, model_sha: null });
      }
      pod.texts.push([...(request.body.query ?? [])]);
      return pod.answer(request);
    }),
    answer: answerRows,
    model: 'scripted',
    says: Promise.resolve(),
    texts: [],
    infoCount: 0,
  };
  return pod;
}

function startFleet(podCount: number, options: APIEncoderOptions = {}): Fleet {
  const pods = Array.from({ length: podCount }, startPod);
  const clock = new WatchedClock();
  const urls = pods.map(({ server }) => server.url);
  const encoder = new APIEncoder(urls, { clock, random: () => 0, ...options });
  const fleet = { pods, encoder, clock };
  open.push(fleet);
  return fleet;
}

/** An answer that a test lets go. */
function held(): { answer: Answer; release(): void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { answer: async (request) => promise.then(() => answerRows(request)), release: resolve };
}

const countsOf = (pods: readonly Pod[]) => pods.map(({ texts }) => texts.length);

describe('spread', () => {
  test('each request goes to the server with the least work outstanding', async () => {
    const { pods, encoder } = startFleet(3);
    const busy = held();
    for (const pod of pods) pod.answer = busy.answer;
    const long = encoder.encode('a'.repeat(1000));
    await until('it has arrived', () => countsOf(pods).includes(1));
    const short = Array.from({ length: 8 }, (_, index) => encoder.encode(`text ${index}`));
    await until('all have arrived', () => countsOf(pods).reduce((sum, one) => sum + one) === 9);
    // One has the long text and nothing else; the others share the short ones.
    expect(countsOf(pods).sort()).toEqual([1, 4, 4]);
    busy.release();
    await Promise.all([long, ...short]);
  });

  test('the texts of one call keep their order', async () => {
    const { pods, encoder } = startFleet(3, { requestTextsMax: 1 });
    const texts = Array.from({ length: 30 }, (_, index) => `text ${index}`);
    const rows = await encoder.encode(texts);
    expect(rows).toEqual(texts.map(scriptedRow));
    expect(countsOf(pods).reduce((sum, one) => sum + one)).toBe(30);
    expect(Math.min(...countsOf(pods))).toBeGreaterThan(0);
  });

  test('one address is asked for nothing but what is wanted of it', async () => {
    const { pods, encoder } = startFleet(1);
    await encoder.encode('text');
    expect(pods[0].infoCount).toBe(0);
  });

  test.each([[[]], [['http://a', 'b']], [[1]]])('no addresses are refused: %p', (urls) => {
    expect(() => new APIEncoder(urls as string[])).toThrow(
      expect.objectContaining({ code: 'CLIENT_ARGUMENT_INVALID', field: 'baseUrl' }),
    );
  });
});

describe('a call that is ended while servers are asked what they serve', () => {
  test.each([0, 1])('takes no other with it, and waits for none: the one at %d', async (ended) => {
    const { pods, encoder } = startFleet(2);
    const { promise, resolve } = Promise.withResolvers<void>();
    for (const pod of pods) pod.says = promise;
    const callers = [new AbortController(), new AbortController()];
    // The first asks, and the second waits for what it hears.
    const calls = callers.map(({ signal }) =>
      encoder.encode('one', { signal }).catch((error: unknown) => error),
    );
    await until('both are asked', () => pods.every(({ infoCount }) => infoCount === 1));
    const reason = new Error('the tab was closed');
    callers[ended]?.abort(reason);
    expect(await calls[ended]).toBe(reason);
    resolve();
    expect(await calls[1 - ended]).toEqual(scriptedRow('one'));
    expect(countsOf(pods).sort()).toEqual([0, 1]);
  });
});

describe('a server that refuses', () => {
  test('is left at once for another, and asked again when its time is over', async () => {
    const { pods, encoder, clock } = startFleet(2);
    pods[0].answer = answerUnavailable;
    expect(await encoder.encode('one')).toEqual(scriptedRow('one'));
    expect(clock.delaysMs).not.toContain(500);
    expect(countsOf(pods)).toEqual([1, 1]);
    await encoder.encode('two');
    expect(countsOf(pods)).toEqual([1, 2]);
    pods[0].answer = answerRows;
    await clock.advance(500);
    await encoder.encode('three');
    expect(countsOf(pods)).toEqual([2, 2]);
  });

  test('names its own time with Retry-After', async () => {
    const { pods, encoder, clock } = startFleet(2);
    const fields = { code: 'EMB_QUEUE_FULL', retryable: true };
    pods[0].answer = () => scriptedError(429, fields, { 'retry-after-ms': '3000' });
    await encoder.encode('one');
    await clock.advance(2999);
    await encoder.encode('two');
    expect(countsOf(pods)).toEqual([1, 2]);
    pods[0].answer = answerRows;
    await clock.advance(1);
    await encoder.encode('three');
    expect(countsOf(pods)).toEqual([2, 2]);
  });

  test('with all others is waited for, no longer than the first of them asks', async () => {
    const { pods, encoder, clock } = startFleet(2);
    const fields = { code: 'EMB_QUEUE_FULL', retryable: true };
    const refuse = (ms: string) => () => scriptedError(429, fields, { 'retry-after-ms': ms });
    pods[0].answer = refuse('3000');
    pods[1].answer = refuse('700');
    const row = encoder.encode('one');
    await until('it waits', () => clock.delaysMs.includes(700));
    for (const pod of pods) pod.answer = answerRows;
    await clock.advance(700);
    expect(await row).toEqual(scriptedRow('one'));
    expect(countsOf(pods)).toEqual([1, 2]);
  });

  test('is tried as often as a server that is alone, and then the call fails', async () => {
    const { pods, encoder, clock } = startFleet(2, { retriesMax: 1, retryDelayMs: 0 });
    for (const pod of pods) pod.answer = answerUnavailable;
    const outcome = encoder.encode('one').catch((error) => error.code);
    await until(
      'both were tried',
      () => countsOf(pods).reduce((sum, one) => sum + one) === 3 || clock.plannedCount === 0,
    );
    await clock.advance(10_000);
    expect(await outcome).toBe('EMB_BACKEND_UNAVAILABLE');
    expect(countsOf(pods).reduce((sum, one) => sum + one)).toBe(3);
  });

  test('is gone: its requests go to the others', async () => {
    const { pods, encoder } = startFleet(3, { requestTextsMax: 1 });
    await encoder.encode('one');
    await pods[1].server.close();
    const texts = Array.from({ length: 20 }, (_, index) => `text ${index}`);
    expect(await encoder.encode(texts)).toEqual(texts.map(scriptedRow));
  });

  test('for what is wrong with the request costs it nothing', async () => {
    const { pods, encoder } = startFleet(2);
    const fields = { code: 'EMB_TEXT_TOO_LONG', retryable: false };
    pods[0].answer = () => scriptedError(422, fields);
    const outcome = await encoder.encode('one').catch((error) => error.code);
    expect(outcome).toBe('EMB_TEXT_TOO_LONG');
    pods[0].answer = answerRows;
    await encoder.encode('two');
    expect(countsOf(pods)).toEqual([2, 0]);
  });
});

describe('a server of another model', () => {
  test('among the first is an error that names both, and no text is sent', async () => {
    const { pods, encoder } = startFleet(3);
    pods[2].model = 'other';
    const error = await encoder.encode('one').catch((caught) => caught);
    expect(error).toMatchObject({ code: 'CLIENT_MODELS_DIFFER', retryable: false });
    expect(error.message).toContain(pods[0].server.url);
    expect(error.message).toContain(pods[2].server.url);
    expect(countsOf(pods)).toEqual([0, 0, 0]);
  });

  test('that comes back in the place of another gets no text', async () => {
    const { pods, encoder, clock } = startFleet(2);
    pods[0].answer = answerUnavailable;
    await encoder.encode('one');
    pods[0].answer = answerRows;
    pods[0].model = 'other';
    await clock.advance(500);
    for (const text of ['two', 'three', 'four']) await encoder.encode(text);
    expect(countsOf(pods)).toEqual([1, 4]);
  });

  test('is noticed within half a minute when nothing has told of the change', async () => {
    const { pods, encoder, clock } = startFleet(2);
    await encoder.encode('one');
    pods[0].model = 'other';
    await clock.advance(30_000);
    await encoder.encode('two');
    expect(countsOf(pods)).toEqual([1, 1]);
  });

  test('is used again when it serves the right one', async () => {
    const { pods, encoder, clock } = startFleet(2);
    await encoder.encode('one');
    pods[0].model = 'other';
    await clock.advance(30_000);
    await encoder.encode('two');
    pods[0].model = 'scripted';
    await clock.advance(30_000);
    await encoder.encode('three');
    expect(countsOf(pods)).toEqual([2, 1]);
  });

  test('is told apart when the others answer and it does not', async () => {
    const { pods, encoder } = startFleet(2);
    await pods[0].server.close();
    await encoder.encode('one');
    expect(countsOf(pods)).toEqual([0, 1]);
  });
});
