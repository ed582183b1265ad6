import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import type { TritonBackend } from '../../backend/triton/triton-backend.ts';
import { ServerError } from '../../base/errors.ts';
import { areEqual, headSet } from '../../vectors/output.ts';
import { type FakeTriton, startFakeTriton } from '../fake-triton.ts';
import type { FakeReply } from '../fake-triton-wire.ts';
import { deterministicEmbedding } from '../triton/deterministic-embedding.ts';
import { tritonBackendOn } from '../triton-backend-on.ts';
import { until } from '../until.ts';
import { VirtualClock } from '../virtual-clock.ts';
import { BATCH, DIMENSION, MODEL, RIGHT } from './triton-under-fault.ts';

/**
 * Two Triton servers, of which one misbehaves.
 *
 * Faults that were planted in the code by hand, and that this suite caught: batches counted instead
 * of their tokens; no slow return; a probe's row that is not compared; a draining endpoint that
 * still gets batches; a name asked only once; an endpoint that fails on batches alone and is never
 * set aside, or the last one that is.
 */

const PROBE_MS = 1000;
const SHAPE = { model: MODEL, datatype: 'INT64', dimension: DIMENSION, batchTextsMax: 32 } as const;

let one: FakeTriton;
let two: FakeTriton;
let clock: VirtualClock;
let backend: TritonBackend | undefined;

beforeEach(async () => {
  one = await startFakeTriton(SHAPE);
  two = await startFakeTriton(SHAPE);
  clock = new VirtualClock();
});

afterEach(async () => {
  await backend?.close();
  await one.stop();
  await two.stop();
  expect([...one.problems, ...two.problems]).toEqual([]);
});

async function onBoth(): Promise<TritonBackend> {
  const urls = [one.url, two.url];
  const options = { urls, model: MODEL, dimension: DIMENSION, clock, probeMs: PROBE_MS };
  backend = tritonBackendOn({ ...options, timeoutMs: 5000 });
  const both = backend;
  await until('both are up', () => both.capabilities().slotCount === 4);
  return both;
}

/** Batches that a fake got: texts of more than the probe's two tokens. */
const batchCount = (fake: FakeTriton): number =>
  fake.inferences.filter(({ texts }) => texts.some((text) => text.length > 2)).length;

const rowsOf = async (both: TritonBackend): Promise<number[]> => {
  const { dense } = await both.infer(BATCH);
  return [...(dense?.values(0, DIMENSION) ?? [])];
};

/** Rows of another model, for every request. */
const anotherModel = (reply: FakeReply): void => {
  reply.data = Buffer.from(reply.data);
  for (let at = 0; at < reply.data.length; at += 8) {
    reply.data.writeFloatLE(-reply.data.readFloatLE(at), at);
  }
};

describe('which one', () => {
  test('the one with fewer padded tokens to do, not with fewer batches', async () => {
    const both = await onBoth();
    for (const fake of [one, two]) fake.behave({ kind: 'stall' });
    const long = {
      texts: [new Int32Array(4096).fill(7)],
      paddedLength: 4096,
      heads: headSet(['dense']),
    };
    const running = [both.infer(long), both.infer(BATCH), both.infer(BATCH)];
    await until('all have arrived', () => batchCount(one) + batchCount(two) === 3);
    const counts = [batchCount(one), batchCount(two)].sort();
    expect(counts).toEqual([1, 2]);
    const other = batchCount(one) === 2 ? one : two;
    expect(other.inferences.every(({ texts }) => (texts[0]?.length ?? 0) < 4096)).toBe(true);
    await both.close();
    await Promise.allSettled(running);
  });

  test('one that comes back gets a batch at a time, until it has proved itself', async () => {
    const both = await onBoth();
    one.behave({ kind: 'reset' });
    for (let batch = 0; batch < 4; batch++) expect(await rowsOf(both)).toEqual(RIGHT[0]);
    expect(both.capabilities().slotCount).toBe(2);
    one.behave({ kind: 'answer' });
    await until('it is back', async () => {
      await clock.advance(100);
      return both.capabilities().endpointCount === 2;
    });
    expect(both.capabilities().slotCount).toBe(3);
    for (let batch = 0; batch < 40; batch++) await Promise.all([rowsOf(both), rowsOf(both)]);
    expect(both.capabilities().slotCount).toBe(4);
  });

  test('a drained endpoint gets nothing, and is back when told', async () => {
    const both = await onBoth();
    expect(await both.endpoints.drain(one.url)).toBe(true);
    expect(await both.endpoints.drain('http://127.0.0.1:1')).toBe(false);
    const before = batchCount(one);
    for (let batch = 0; batch < 6; batch++) expect(await rowsOf(both)).toEqual(RIGHT[0]);
    expect(batchCount(one)).toBe(before);
    expect(both.capabilities().slotCount).toBe(2);
    both.endpoints.resume(one.url);
    await Promise.all(Array.from({ length: 6 }, () => rowsOf(both)));
    expect(batchCount(one)).toBeGreaterThan(before);
  });

  test('each of those who drain an endpoint is told when it is empty', async () => {
    const both = await onBoth();
    const running = [rowsOf(both), rowsOf(both)];
    expect(both.endpoints.list().map(({ batchesInFlight }) => batchesInFlight)).toEqual([1, 1]);
    const told = [one, one, two, two].map(({ url }) => both.endpoints.drain(url));
    await Promise.all(running);
    expect(await Promise.all(told)).toEqual([true, true, true, true]);
  });
});

/** The same model by another engine: rows that are near. */
const anotherEngine = (reply: FakeReply): void => {
  reply.data = Buffer.from(reply.data);
  for (let at = 0; at < reply.data.length; at += 4) {
    reply.data.writeFloatLE(reply.data.readFloatLE(at) * (at % 8 === 0 ? 1.01 : 0.99), at);
  }
};

describe('which model', () => {
  test('another engine of the same model serves, and is told from the one before', async () => {
    const both = await onBoth();
    const { engine } = both;
    expect(engine).toMatch(/^probe [0-9a-f]{16}$/);
    await two.stop();
    await until('it is missed', async () => {
      await clock.advance(100);
      return both.capabilities().endpointCount === 1;
    });
    expect(both.engine).toBe(engine);
    two.behave({ kind: 'lie', change: anotherEngine });
    await two.restart();
    await until('it is back', async () => {
      await clock.advance(100);
      return both.capabilities().endpointCount === 2;
    });
    const engines = both.engine?.split(', ');
    expect(engines).toHaveLength(2);
    expect(engines).toContain(engine);
  });

  test('another engine in the place of one that was never missed is a model come up anew', async () => {
    const both = await onBoth();
    const { engine } = both;
    expect(both.modelStarts).toBe(2);
    two.behave({ kind: 'lie', change: anotherEngine });
    await until('it is told from the one before', async () => {
      await clock.advance(100);
      return both.engine !== engine;
    });
    expect(both.modelStarts).toBe(3);
    expect(both.capabilities().endpointCount).toBe(2);
  });

  test('and is held to the self-check, as one that was', async () => {
    const right = deterministicEmbedding([0, 2], DIMENSION);
    const selfCheck = {
      ids: Int32Array.of(0, 2),
      faultOf: (row: Float32Array) =>
        areEqual(row, right) ? undefined : 'it fails the self-check',
    };
    const options = { urls: [one.url], model: MODEL, dimension: DIMENSION, probeMs: PROBE_MS };
    const only = tritonBackendOn({ ...options, clock, selfCheck });
    backend = only;
    await until('it is up', () => only.state().isReady);
    one.behave({ kind: 'lie', change: anotherEngine });
    await until('it is refused', async () => {
      await clock.advance(100);
      return only.state().reason.includes('it fails the self-check');
    });
  });

  test('an endpoint with other rows for the same text is never used', async () => {
    two.behave({ kind: 'lie', change: anotherModel });
    const urls = [one.url, two.url];
    backend = tritonBackendOn({ urls, model: MODEL, dimension: DIMENSION, clock });
    const both = backend;
    await until('one is up and the other judged', () =>
      both.endpoints.list().some(({ reason }) => reason.includes('another model')),
    );
    expect(both.capabilities().endpointCount).toBe(1);
  });

  test('nor one that has come back with another model', async () => {
    const both = await onBoth();
    await two.stop();
    for (let batch = 0; batch < 4; batch++) expect(await rowsOf(both)).toEqual(RIGHT[0]);
    two.behave({ kind: 'lie', change: anotherModel });
    await two.restart();
    await until('it is judged', async () => {
      await clock.advance(100);
      return both.endpoints.list()[1].reason.includes('another model');
    });
    for (let batch = 0; batch < 6; batch++) expect(await rowsOf(both)).toEqual(RIGHT[0]);
  });
});

describe('one that fails', () => {
  test('on batches alone, while it answers probes, is set aside; the last one never is', async () => {
    const both = await onBoth();
    const fails = async (): Promise<string> => {
      const outcome = await both.infer(BATCH).catch((error: ServerError) => error);
      return outcome instanceof ServerError ? outcome.code : 'a row';
    };
    for (let batch = 0; batch < 12; batch++) {
      for (const fake of [one, two]) {
        fake.behaveOnce({ kind: 'status', status: 400, body: '{}' });
      }
      expect(await fails()).toBe('EMB_BACKEND_FAILED');
    }
    expect(both.capabilities().endpointCount).toBe(1);
    expect(both.state().isReady).toBe(true);
  });

  test('to say whether it lives fails over before the deadline of its batches', async () => {
    const both = await onBoth();
    await two.stop();
    await rowsOf(both);
    await rowsOf(both);
    await two.restart();
    await until('it is back', async () => {
      await clock.advance(100);
      return both.capabilities().endpointCount === 2;
    });
    one.hang();
    const outcomes = Promise.all([rowsOf(both), rowsOf(both)]);
    let isOver = false;
    void outcomes.then(() => {
      isOver = true;
    });
    const startMs = clock.now();
    await until('both batches have rows', async () => {
      await clock.advance(100);
      return isOver;
    });
    expect(await outcomes).toEqual([RIGHT[0], RIGHT[0]]);
    // Two questions of a second each, and the time before the first; the batch's own deadline is at
    // five.
    expect(clock.now() - startMs).toBeLessThan(5000);
  });
});

describe('names', () => {
  /** Endpoints by the addresses that a name has. */
  async function onName(resolve: (name: string) => Promise<string[]>) {
    const urls = [`http://triton.test:${new URL(one.url).port}`];
    const shared = { model: MODEL, dimension: DIMENSION, clock };
    const named = tritonBackendOn({ ...shared, urls, resolveMs: 500, resolve });
    backend = named;
    await until('its address is up', () => named.state().isReady);
    return named;
  }

  test('each address is an endpoint, and they follow the name', async () => {
    let addresses = ['127.0.0.1'];
    let hosts: (string | undefined)[] = [];
    const named = await onName(async (name) => {
      hosts = [...hosts, name];
      return addresses;
    });
    expect(named.endpoints.list().map(({ url }) => url)).toEqual([one.url]);
    expect(await named.endpoints.drain(one.url)).toBe(true);
    addresses = ['127.0.0.1', '127.0.0.2'];
    await until('the second address is known', async () => {
      await clock.advance(500);
      return named.endpoints.list().length === 2;
    });
    // What an operator drained stays so, whatever else the name says.
    expect(named.endpoints.list().map(({ isDraining }) => isDraining)).toEqual([true, false]);
    addresses = ['127.0.0.2'];
    await until('the first is gone', async () => {
      await clock.advance(500);
      return named.endpoints.list().length === 1;
    });
    expect(named.endpoints.list()[0].url).toBe(one.url.replace('127.0.0.1', '127.0.0.2'));
    expect(new Set(hosts)).toEqual(new Set(['triton.test']));
  });

  test('a name that is lost keeps the addresses it had', async () => {
    let isLost = false;
    const named = await onName(async () => {
      if (isLost) throw new Error('no such name');
      return ['127.0.0.1'];
    });
    isLost = true;
    for (let round = 0; round < 5; round++) await clock.advance(500);
    expect(await rowsOf(named)).toEqual(RIGHT[0]);
  });
});
