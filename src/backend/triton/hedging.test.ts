import { describe, expect, test } from 'bun:test';
import { type Clock, createCancellation } from '../../base/clock.ts';
import { createMicroBatcher } from '../../batcher/micro-batcher.ts';
import { BACKGROUND } from '../../testing/batcher-harness.ts';
import {
  createSimulatedBackend,
  createSimulatedNetwork,
  DIMENSION,
  type ServerMood,
  SIMULATED_IN_FLIGHT,
} from '../../testing/simulation/simulated-network.ts';
import { VirtualClock } from '../../testing/virtual-clock.ts';
import { headSet } from '../../vectors/output.ts';
import { createHedging } from './hedging.ts';
import type { TritonEndpoint } from './triton-endpoint.ts';

/**
 * Batches that are late, on simulated servers and a virtual clock.
 *
 * Faults that were planted in the code by hand, and that this suite caught: no second try at all; a
 * late endpoint that gets the next batches, or that comes back at once each time; no bound of
 * second tries; one to an endpoint that is full, or has answered nothing since; a timer after a
 * stall that is believed; a quantile that never moves; a second try counted at the wrong endpoint.
 */

/** Servers under the load of eight callers, each of whom sends one text after the other. */
async function underLoad(options: { serverCount?: number } = {}) {
  const { serverCount = 2 } = options;
  const clock = new VirtualClock();
  const network = createSimulatedNetwork(clock, { serverCount, batchTextsMax: 32 });
  const sizes = { batchTextsMax: 32, batchTokensMax: 4096 };
  const backend = createSimulatedBackend(network, { clock, probeMs: 1000, ...sizes });
  let batchCount = 0;
  const batcher = createMicroBatcher({
    backend,
    expected: { dimension: DIMENSION, isNormalized: true },
    clock,
    lingerMs: 0,
    holdShare: 0.5,
    background: BACKGROUND,
    tokenCountMax: 512,
    onBatch: () => {
      batchCount++;
    },
  });
  await clock.advance(100);
  const seen = { textCount: 0, failedCount: 0, longestMs: 0 };
  let isStopped = false;
  const caller = async (index: number): Promise<void> => {
    for (let turn = 0; !isStopped; turn++) {
      // No two at a time are equal: each is computed.
      const ids = new Int32Array(3 + ((turn * 7 + index) % 90)).fill(10 + index);
      const cancellation = createCancellation({ clock, timeoutMs: 1e6 });
      const sentMs = clock.now();
      const job = { tokenIds: [ids], heads: headSet(['dense']), batchTextsMax: 32, cancellation };
      const { outcomes } = await batcher.submit(job);
      cancellation.release();
      if (outcomes.some((one) => one instanceof Error)) seen.failedCount++;
      seen.textCount++;
      seen.longestMs = Math.max(seen.longestMs, clock.now() - sentMs);
    }
  };
  const callers = Array.from({ length: 8 }, (_, index) => caller(index));
  await clock.advance(1000);
  return {
    clock,
    network,
    seen,
    endpoints: () => backend.endpoints.list(),
    /** What callers see from now on. */
    forget: () => Object.assign(seen, { textCount: 0, failedCount: 0, longestMs: 0 }),
    /** Calls, and batches that are back. */
    counts: () => ({ callCount: network.inferences.length, batchCount }),
    async end(): Promise<void> {
      isStopped = true;
      await clock.advance(10_000);
      await Promise.all(callers);
      batcher.close();
      await backend.close();
      await clock.advance(10_000);
      expect(clock.plannedCount).toBe(0);
      expect(network.problems).toEqual([]);
    },
  };
}

const SILENT: readonly ServerMood[] = ['hung', 'half-open', 'slow'];

describe('one of two servers', () => {
  test.each(SILENT)('that is %s makes nobody wait longer than a late batch', async (mood) => {
    const load = await underLoad();
    load.forget();
    load.network.setMood(0, mood);
    await load.clock.advance(5000);
    expect(load.seen.textCount).toBeGreaterThan(2000);
    expect(load.seen.failedCount).toBe(0);
    expect(load.seen.longestMs).toBeLessThan(100);
    const [{ secondTries }, other] = load.endpoints();
    expect(secondTries.sentCount).toBeGreaterThan(0);
    expect(secondTries.wonCount).toBeGreaterThan(0);
    expect(secondTries.wonCount).toBeLessThanOrEqual(secondTries.sentCount);
    expect(other.secondTries).toEqual({ sentCount: 0, wonCount: 0 });
    load.network.setMood(0, 'well');
    await load.clock.advance(5000);
    const ofFirst = (): number =>
      load.network.inferences.filter(({ serverIndex }) => serverIndex === 0).length;
    const before = ofFirst();
    await load.clock.advance(1000);
    expect(ofFirst() - before).toBeGreaterThan(50);
    await load.end();
  });
});

test('a server that stays slow is late most of the time, which the alert is made for', async () => {
  const load = await underLoad();
  load.network.setMood(0, 'slow');
  await load.clock.advance(60_000);
  let lateCount = 0;
  for (let at = 0; at < 60; at++) {
    await load.clock.advance(1000);
    if (load.endpoints()[0].isLate) lateCount++;
  }
  expect(lateCount).toBeGreaterThan(45);
  expect(load.endpoints()[1].isLate).toBe(false);
  await load.end();
});

describe('what is sent twice', () => {
  /** Calls and batches while all servers have a mood. */
  async function countsWhile(mood: ServerMood, serverCount: number): Promise<[number, number]> {
    const load = await underLoad({ serverCount });
    const before = load.counts();
    for (let index = 0; index < serverCount; index++) load.network.setMood(index, mood);
    await load.clock.advance(20_000);
    const { callCount, batchCount } = load.counts();
    await load.end();
    return [callCount - before.callCount, batchCount - before.batchCount];
  }

  test.each(['well', 'slow'] as const)('is next to nothing where all are %s', async (mood) => {
    for (const serverCount of [2, 3]) {
      const [callCount, batchCount] = await countsWhile(mood, serverCount);
      expect(batchCount).toBeGreaterThan(300);
      // What was saved up before, and what was on its way at the beginning and the end.
      const few = 8 + serverCount * SIMULATED_IN_FLIGHT;
      expect(callCount).toBeLessThanOrEqual(batchCount * (mood === 'well' ? 1 : 1.05) + few);
    }
  });

  test('is nothing at all where there is one server', async () => {
    const [callCount, batchCount] = await countsWhile('slow', 1);
    expect(callCount).toBeLessThanOrEqual(batchCount + SIMULATED_IN_FLIGHT);
  });
});

describe('a second try', () => {
  /** Two endpoints, of which the first answers until it is told to hang; second calls are counted. */
  function pair() {
    const clock = new VirtualClock();
    const other = { isLate: false, batchesInFlight: 0, capacity: 2, answeredMs: 0 };
    let isHung = false;
    let takesMs = 0;
    let secondCount = 0;
    let secondMs = 0;
    const passed = (ms: number): Promise<void> =>
      new Promise((resolve) => void clock.schedule(ms, resolve));
    const first = {
      async infer() {
        if (isHung) await new Promise(() => undefined);
        if (takesMs > 0) await passed(takesMs);
        return {};
      },
      noteLate: () => undefined,
      suspectSilence: () => undefined,
      secondTries: { sentCount: 0, wonCount: 0 },
    } as unknown as TritonEndpoint;
    const second = Object.assign(other, {
      async infer() {
        secondCount++;
        secondMs = clock.now();
        if (takesMs > 0) await passed(20);
        return {};
      },
    }) as unknown as TritonEndpoint;
    let stallMs = 0;
    const shifted: Clock = {
      now: () => clock.now() + stallMs,
      schedule: (delayMs, action) => clock.schedule(delayMs, action),
      afterTurn: (action) => clock.afterTurn(action),
    };
    const hedgedInfer = createHedging({
      clock: shifted,
      pick: (isFit) => (isFit(second) ? second : undefined),
    });
    const ids = Int32Array.of(0, 5, 2);
    const batch = { texts: [ids], paddedLength: 3, heads: headSet(['dense']) };
    const options = { signal: undefined, onSecond: () => undefined };
    return {
      clock,
      other,
      send: (count: number) => {
        for (let at = 0; at < count; at++) void hedgedInfer(first, batch, options);
      },
      hang: (isOn = true) => {
        isHung = isOn;
      },
      /** How long the first endpoint needs for each batch from now on. */
      take: (ms: number) => {
        takesMs = ms;
      },
      /** This process has stood still for so long. */
      stall: (ms: number) => {
        stallMs += ms;
      },
      secondCount: () => secondCount,
      /** When the last second call was sent. */
      secondAtMs: () => secondMs,
    };
  }

  test('is one of twenty batches, and of a few that were saved up', async () => {
    const { clock, send, hang, secondCount } = pair();
    send(40);
    await clock.advance(1);
    hang();
    send(50);
    await clock.advance(5000);
    expect(secondCount()).toBe(8);
  });

  test('comes later where a tenth of the batches takes eight times as long', async () => {
    const { clock, send, take, secondAtMs } = pair();
    const lateMs: number[] = [];
    for (let at = 0; at < 1000; at++) {
      take(at % 10 === 9 ? 160 : 20);
      const sentMs = clock.now();
      send(1);
      await clock.advance(200);
      if (secondAtMs() > sentMs) lateMs.push(secondAtMs() - sentMs);
    }
    expect(lateMs.length).toBeGreaterThan(20);
    expect(Math.min(...lateMs.slice(-10))).toBeGreaterThan(100);
  });

  test('goes to nobody who has answered nothing since, and waits for a place', async () => {
    const { clock, other, send, hang, secondCount } = pair();
    send(40);
    await clock.advance(1);
    hang();
    other.batchesInFlight = 1;
    send(1);
    await clock.advance(5000);
    expect(secondCount()).toBe(0);
    other.answeredMs = clock.now();
    other.batchesInFlight = 2;
    await clock.advance(5000);
    expect(secondCount()).toBe(0);
    // A batch that comes back tells that there may be one now.
    other.batchesInFlight = 1;
    hang(false);
    send(1);
    await clock.advance(1);
    expect(secondCount()).toBe(1);
  });

  test('waits for what has come in during a stall of our own', async () => {
    const { clock, send, hang, stall, secondCount } = pair();
    send(40);
    await clock.advance(1);
    hang();
    send(1);
    await clock.advance(1);
    stall(500);
    await clock.advance(26);
    expect(secondCount()).toBe(0);
    await clock.advance(26);
    expect(secondCount()).toBe(1);
  });
});
