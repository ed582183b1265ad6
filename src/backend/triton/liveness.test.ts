import { describe, expect, test } from 'bun:test';
import type { Clock } from '../../base/clock.ts';
import {
  createSimulatedBackend,
  createSimulatedNetwork,
  type ServerMood,
} from '../../testing/simulation/simulated-network.ts';
import { VirtualClock } from '../../testing/virtual-clock.ts';
import { headSet } from '../../vectors/output.ts';
import type { TokenBatch } from '../contract.ts';
import type { TritonEndpoint } from './triton-endpoint.ts';

/**
 * Servers that say nothing, where no other can take their batches, on a virtual clock.
 *
 * Faults that were planted in the code by hand, and that this suite caught: no question when a
 * batch is late; one with each look at it; a stall of our own that counts as silence; silence that
 * an answer does not end; batches given up at the first silence; a server that is down asked once
 * more by each batch.
 */

const PROBE_MS = 1000;
const BATCH: TokenBatch = {
  texts: [Int32Array.of(0, 5, 2)],
  paddedLength: 3,
  heads: headSet(['dense']),
};

/** Servers that have answered enough for it to be known what a batch takes. */
async function wellKnown(options: { serverCount?: number } = {}) {
  const { serverCount = 1 } = options;
  const clock = new VirtualClock();
  const network = createSimulatedNetwork(clock, { serverCount, batchTextsMax: 32 });
  let stallMs = 0;
  const shifted: Clock = {
    now: () => clock.now() + stallMs,
    schedule: (delayMs, action) => clock.schedule(delayMs, action),
    afterTurn: (action) => clock.afterTurn(action),
  };
  let questionCount = 0;
  const call: typeof network.call = (request) => {
    if (request.address.endsWith('/v2/health/live')) questionCount++;
    return network.call(request);
  };
  const sizes = { batchTextsMax: 32, batchTokensMax: 4096 };
  const backend = createSimulatedBackend(
    { ...network, call },
    { clock: shifted, probeMs: PROBE_MS, ...sizes },
  );
  await clock.advance(100);
  let [openCount, failedCount] = [0, 0];
  const send = (): void => {
    openCount++;
    backend
      .infer(BATCH)
      .catch(() => failedCount++)
      .finally(() => openCount--);
  };
  for (let at = 0; at < 20; at++) {
    send();
    await clock.advance(10);
  }
  return {
    clock,
    backend,
    send,
    openCount: () => openCount,
    failedCount: () => failedCount,
    questionCount: () => questionCount,
    isReady: () => backend.state().isReady,
    become(mood: ServerMood, ...indexes: number[]): void {
      const which = indexes.length === 0 ? network.urls.keys() : indexes;
      for (const index of which) network.setMood(index, mood);
    },
    /** This process has stood still for so long. */
    stall: (ms: number) => {
      stallMs += ms;
    },
    async end(): Promise<void> {
      await backend.close();
      await clock.advance(20_000);
      expect(openCount).toBe(0);
      expect(clock.plannedCount).toBe(0);
      expect(network.problems).toEqual([]);
    },
  };
}

describe('a server without another beside it', () => {
  test.each([1, 2])(
    'that hangs takes on nobody after a second (%d of them)',
    async (serverCount) => {
      const load = await wellKnown({ serverCount });
      load.become('hung');
      load.send();
      load.send();
      await load.clock.advance(1000);
      expect(load.isReady()).toBe(true);
      await load.clock.advance(150);
      expect(load.backend.state().reason).toContain('is silent.');
      expect(load.isReady()).toBe(false);
      // It may have been stopped for a moment only, and what it has is left there.
      expect([load.openCount(), load.failedCount()]).toEqual([2, 0]);
      await load.end();
    },
  );

  test('that goes on is ready with its first answer, and was never down', async () => {
    const load = await wellKnown();
    load.become('hung');
    load.send();
    await load.clock.advance(1200);
    load.become('well');
    await load.clock.advance(PROBE_MS + 10);
    expect(load.isReady()).toBe(true);
    expect(load.backend.modelStarts).toBe(1);
    await load.clock.advance(3000);
    expect([load.openCount(), load.failedCount()]).toEqual([0, 0]);
    await load.end();
  });

  test('that hangs for good is down after a second question, and tells its batches', async () => {
    const load = await wellKnown();
    load.become('hung');
    load.send();
    await load.clock.advance(1500);
    // Of this one, the deadline is not over by then.
    load.send();
    await load.clock.advance(1600);
    expect(load.backend.state().reason).toContain('does not answer any more');
    expect(load.failedCount()).toBe(1);
    await load.end();
  });

  test('that is slow is asked once in a while, and stays ready', async () => {
    const load = await wellKnown();
    load.become('slow');
    let unreadyCount = 0;
    const before = load.questionCount();
    for (let at = 0; at < 1000; at++) {
      if (load.openCount() < 4) load.send();
      await load.clock.advance(10);
      if (!load.isReady()) unreadyCount++;
    }
    expect(unreadyCount).toBe(0);
    const asked = load.questionCount() - before;
    expect(asked).toBeGreaterThan(0);
    expect(asked).toBeLessThanOrEqual(10_000 / PROBE_MS + 1);
    await load.clock.advance(3000);
    expect(load.failedCount()).toBe(0);
    await load.end();
  });

  test('is asked one question at a time: two in one stop are one silence', async () => {
    const load = await wellKnown({ serverCount: 2 });
    const [hung] = load.backend.endpoints.list() as TritonEndpoint[];
    await load.clock.advance(PROBE_MS / 2);
    load.become('hung', 0);
    hung.suspectSilence();
    hung.noteLate();
    // Longer than any one question takes, and shorter than two.
    await load.clock.advance(1.8 * PROBE_MS);
    expect([hung.isSilent, hung.reason]).toEqual([true, '']);
    await load.end();
  });

  test('is not called silent for a stall of our own', async () => {
    const load = await wellKnown();
    load.become('hung');
    load.send();
    await load.clock.advance(500);
    load.stall(3000);
    await load.clock.advance(700);
    expect(load.isReady()).toBe(true);
    load.send();
    await load.clock.advance(2000);
    expect(load.backend.state().reason).toContain('is silent.');
    await load.end();
  });
});
