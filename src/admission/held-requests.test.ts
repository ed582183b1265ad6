import { describe, expect, test } from 'bun:test';
import type { ServerError } from '../base/errors.ts';
import { VirtualClock } from '../testing/virtual-clock.ts';
import { createAdmission, type Demand, type Permit } from './admission.ts';

/**
 * Requests before a full queue. Faults that were planted by hand, and that this suite caught: room
 * that nobody is told of; a request that is let in and timed out as well; callers who do not take
 * turns; a bound that is not kept; one line for requests of all sizes; a line that keeps the
 * backend waiting, or others out; a line that holds where nothing may be held.
 */

function harness(hold: { holdTextsMax?: number; holdBytesMax?: number } = {}) {
  const clock = new VirtualClock();
  const admission = createAdmission({
    ...{ clock, textCountMax: 64, tokenCountMax: 100_000 },
    hold: { holdMs: 1000, holdTextsMax: 1000, holdBytesMax: 1e6, ...hold },
  });
  const log: string[] = [];
  const permits = new Map<string, Permit>();
  const enter = (name: string, more: Partial<Demand> = {}, signal?: AbortSignal): void => {
    const demand = { textCount: 16, tokenCount: 160, byteCount: 1000, caller: name[0], ...more };
    void Promise.try(() => admission.enter(demand, signal)).then(
      (permit) => {
        permits.set(name, permit);
        log.push(name);
      },
      (error: ServerError) => log.push(`${name} ${error.code}`),
    );
  };
  const release = (name: string): void => permits.get(name)?.release();
  return { clock, admission, log, enter, release };
}

/** Two requests of 160 tokens, or two texts, keep the backend at work. */
function lineHarness(holdMs = 1000) {
  const clock = new VirtualClock();
  const drain = { tokensPerMs: 1, isMeasured: false };
  const fill = { textCount: 2, tokenCount: 320 };
  const backlog = { waitingTextCount: 0, latenessMs: 0, drain, fill };
  const admission = createAdmission({
    ...{ clock, textCountMax: 1000, tokenCountMax: 100_000, timeoutMs: 10_000 },
    backlog,
    hold: { holdMs, holdTextsMax: 1000, holdBytesMax: 1e6 },
  });
  const [log, permits]: [string[], Map<string, Permit>] = [[], new Map()];
  const enter = (name: string, more: Partial<Demand> = {}): void => {
    const demand = { textCount: 16, tokenCount: 160, caller: name[0], ...more };
    void Promise.try(() => admission.enter(demand, undefined)).then(
      (permit) => {
        permits.set(name, permit);
        log.push(name);
      },
      (error: ServerError) => log.push(`${name} ${error.code}`),
    );
  };
  const release = (name: string): void => permits.get(name)?.release();
  return { clock, drain, backlog, admission, log, enter, release };
}

describe("a caller's requests of one size", () => {
  const burst = ['a0', 'a1', 'a2', 'a3', 'a4', 'a5'];

  test('are in the queue one after the other, and the backend has enough', async () => {
    const it = lineHarness();
    for (const name of burst) it.enter(name);
    await it.clock.settle();
    expect(it.log).toEqual(['a0', 'a1']);
    it.release('a0');
    await it.clock.settle();
    expect(it.log).toEqual(['a0', 'a1', 'a2']);
    // A tenth of ten seconds at ten tokens a ms: all of them.
    Object.assign(it.drain, { tokensPerMs: 10, isMeasured: true });
    it.release('a1');
    await it.clock.settle();
    expect(it.log).toEqual(burst);
  });

  // Caught: what it had waited already was forgotten, and it got 504 once the work was done.
  test('of which one has waited is let in only for the time that it has left', async () => {
    const it = lineHarness();
    for (const name of ['a0', 'a1']) it.enter(name);
    it.enter('a2', { timeoutMs: 2000 });
    Object.assign(it.backlog, { waitingTextCount: 1, latenessMs: 600 });
    await it.clock.advance(1000);
    expect(it.log).toEqual(['a0', 'a1', 'a2 EMB_QUEUE_FULL']);
  });

  test('keep none of another size waiting, nor those of anybody else', async () => {
    const it = lineHarness();
    for (const name of burst) it.enter(name);
    it.enter('a query', { textCount: 1, tokenCount: 12 });
    it.enter('a large one', { textCount: 900, tokenCount: 9000 });
    it.enter('b0');
    await it.clock.settle();
    expect(it.log).toEqual(['a0', 'a1', 'a query', 'a large one', 'b0']);
  });

  test('are two at least, if they are of one text each', async () => {
    const it = lineHarness();
    for (const name of burst) it.enter(name, { textCount: 1, tokenCount: 3000 });
    await it.clock.settle();
    expect(it.log).toEqual(['a0', 'a1']);
  });

  test('go by the limits alone in the end, and where nothing is held', async () => {
    const waiting = lineHarness(1000);
    for (const name of burst) waiting.enter(name);
    await waiting.clock.advance(999);
    expect(waiting.log).toHaveLength(2);
    await waiting.clock.advance(1);
    expect(waiting.log).toEqual(burst);
    const it = lineHarness(0);
    for (const name of burst) it.enter(name);
    await it.clock.settle();
    expect(it.log).toEqual(burst);
  });
});

describe('before a full queue', () => {
  test('a lone burst of many times the queue is let in whole, in its order', async () => {
    const it = harness();
    const names = Array.from({ length: 20 }, (_, index) => `a${index}`);
    for (const name of names) it.enter(name);
    expect(it.admission.heldTextCount).toBe(16 * 16);
    for (const name of names) {
      await it.clock.settle();
      expect(it.admission.admittedTextCount).toBeLessThanOrEqual(64);
      it.release(name);
    }
    expect(it.log).toEqual(names);
    expect([it.admission.heldTextCount, it.admission.admittedTextCount]).toEqual([0, 0]);
    expect(it.clock.plannedCount).toBe(0);
  });

  test('a stranger goes past those who wait, and callers who wait take turns', async () => {
    const it = harness();
    for (const name of ['a0', 'a1', 'a2', 'a3', 'a4', 'a5', 'a6']) it.enter(name);
    it.enter('b0', { textCount: 1 });
    it.enter('b1');
    await it.clock.settle();
    expect(it.log).toEqual(['a0', 'a1', 'a2', 'a3', 'b0']);
    for (const name of ['a0', 'a1', 'a2']) it.release(name);
    await it.clock.settle();
    expect(it.log.slice(5)).toContain('b1');
  });

  test('who waits in vain is refused with the time to come back', async () => {
    const it = harness();
    for (const name of ['a0', 'a1', 'a2', 'a3', 'a4']) it.enter(name);
    it.enter('a5', { timeoutMs: 400 });
    await it.clock.advance(200);
    expect(it.log.slice(4)).toEqual(['a5 EMB_QUEUE_FULL']);
    await it.clock.advance(800);
    expect(it.log.slice(5)).toEqual(['a4 EMB_QUEUE_FULL']);
    it.release('a0');
    await it.clock.settle();
    expect(it.log).toHaveLength(6);
    expect(it.admission.heldTextCount).toBe(0);
  });

  test('who hangs up leaves nothing behind', async () => {
    const it = harness();
    const controller = new AbortController();
    for (const name of ['a0', 'a1', 'a2', 'a3']) it.enter(name);
    it.enter('a4', {}, controller.signal);
    controller.abort();
    await it.clock.settle();
    expect(it.log.at(-1)).toBe('a4 EMB_REQUEST_ABORTED');
    expect(it.admission.heldTextCount).toBe(0);
    expect(it.clock.plannedCount).toBe(0);
  });

  test.each([
    ['texts', { holdTextsMax: 20 }],
    ['bytes', { holdBytesMax: 1500 }],
  ])('there is room for so many %s', async (_what, bound) => {
    const it = harness(bound);
    for (const name of ['a0', 'a1', 'a2', 'a3', 'a4', 'a5']) it.enter(name);
    await it.clock.settle();
    expect(it.log.slice(4)).toEqual(['a5 EMB_QUEUE_FULL']);
  });

  test('a server that ends tells those who wait', async () => {
    const it = harness();
    for (const name of ['a0', 'a1', 'a2', 'a3', 'a4']) it.enter(name);
    void it.admission.close();
    await it.clock.settle();
    expect(it.log.slice(4)).toEqual(['a4 EMB_SHUTTING_DOWN']);
  });
});
