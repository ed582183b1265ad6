import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { until } from '../testing/until.ts';
import { VirtualClock } from '../testing/virtual-clock.ts';
import type {
  ScriptedInit,
  ScriptedReady,
  ScriptedRequest,
  StartScript,
} from '../testing/workers/scripted-worker.ts';
import { createLog } from './log.ts';
import { createWorkerHost, type WorkerHost } from './worker-host.ts';

/**
 * Real workers that start and die as they are told; restarts and deadlines on a virtual clock.
 *
 * Faults that were planted in the code by hand, and that this suite caught: restarts without end,
 * or none; a deadline that is not kept or not cancelled; a death told for a start, or told twice; a
 * late response taken for a start; a closed host that starts again.
 */

const URL_OF_WORKER = new URL('../testing/workers/scripted-worker.ts', import.meta.url);
const START_MS_MAX = 1000;
const RESTARTS_MAX = 3;

let clock: VirtualClock;
let replies: { value: number }[];
let deaths: string[];
/** Starts, and exits on command. */
let counts: Int32Array<SharedArrayBuffer>;
let loggedDeathCount: number;
let host: WorkerHost<ScriptedRequest, ScriptedReady>;

beforeEach(() => {
  clock = new VirtualClock();
  replies = [];
  deaths = [];
  counts = new Int32Array(new SharedArrayBuffer(8));
  loggedDeathCount = 0;
});

afterEach(() => host.close());

function start(...starts: readonly StartScript[]): void {
  startWith({ starts });
}

function startWith(options: {
  starts: readonly StartScript[];
  shutdown?: ScriptedRequest;
  restartsMax?: number;
}): void {
  const { starts, shutdown, restartsMax = RESTARTS_MAX } = options;
  host = createWorkerHost<ScriptedInit, ScriptedRequest, { value: number }, ScriptedReady>({
    name: 'scripted',
    url: URL_OF_WORKER,
    init: { starts, counts: counts.buffer },
    ...(shutdown === undefined ? {} : { shutdown }),
    startMsMax: START_MS_MAX,
    restartsMax,
    clock,
    log: createLog({ level: 'error', write: () => loggedDeathCount++ }),
    onResponse: (reply) => replies.push(reply),
    onDeath: (reason) => deaths.push(reason),
  });
}

/** Waits, letting restarts happen, but no start deadline: those take ten times as long. */
async function untilWithRestarts(what: string, condition: () => boolean): Promise<void> {
  await until(what, async () => {
    await clock.advance(START_MS_MAX / 100);
    return condition();
  });
}

describe('a start', () => {
  test('that works says what is ready, and requests are answered', async () => {
    start('ready');
    expect(host.ready).toBeUndefined();
    expect(host.reason).toContain('starting');
    await host.started;
    expect([host.ready?.start, host.reason]).toEqual([1, '']);
    host.send({ kind: 'answer', value: 21 });
    await until('it answers', () => replies.length > 0);
    expect(replies).toEqual([{ value: 42 }]);
    expect(clock.plannedCount).toBe(0);
  });

  for (const fault of ['failed', 'throws', 'exits'] as const) {
    test(`that ${fault} is tried again, some times, and then no more`, async () => {
      start(fault);
      await untilWithRestarts('it gives up', () => host.reason.includes('was started'));
      await host.started;
      expect(counts[0]).toBe(RESTARTS_MAX + 1);
      expect(host.ready).toBeUndefined();
      expect(host.reason).toContain(`${RESTARTS_MAX + 1} times`);
      await clock.advance(100_000);
      expect(counts[0]).toBe(RESTARTS_MAX + 1);
      // It never ran, so no request can have died with it.
      expect(deaths).toEqual([]);
    });
  }

  test('that fails at first works in the end', async () => {
    start('failed', 'throws', 'ready');
    await untilWithRestarts('it runs', () => host.ready !== undefined);
    expect([host.ready?.start, host.reason]).toEqual([3, '']);
  });

  test('that says nothing is ended at its deadline', async () => {
    start('silent', 'ready');
    await until('the worker has come up', () => counts[0] === 1);
    await clock.advance(START_MS_MAX - 1);
    expect(counts[0]).toBe(1);
    await clock.advance(1);
    await untilWithRestarts('the next one runs', () => host.ready !== undefined);
    expect(host.ready?.start).toBe(2);
  });

  test('waits longer after each death in a row', async () => {
    const delays: number[] = [];
    const schedule = clock.schedule.bind(clock);
    clock.schedule = (delayMs, action) => {
      delays.push(delayMs);
      return schedule(delayMs, action);
    };
    start('failed');
    await untilWithRestarts('it gives up', () => host.reason.includes('was started'));
    const waits = delays.filter((delayMs) => delayMs !== START_MS_MAX);
    expect(waits).toHaveLength(RESTARTS_MAX);
    expect(waits).toEqual([...new Set(waits)].toSorted((a, b) => a - b));
  });
});

describe('a worker that dies at work', () => {
  for (const kind of ['throw', 'exit'] as const) {
    test(`by ${kind} is replaced at once, and its death is told once`, async () => {
      start('ready');
      await host.started;
      host.send({ kind, value: 5 });
      await until('the death is told', () => deaths.length > 0);
      expect(host.ready).toBeUndefined();
      expect(host.reason).not.toBe('');
      await untilWithRestarts('the next one runs', () => host.ready !== undefined);
      expect([host.ready?.start, host.reason, deaths.length]).toEqual([2, '', 1]);
      host.send({ kind: 'answer', value: 1 });
      await until('it answers', () => replies.length > 0);
      expect(replies).toEqual([{ value: 2 }]);
    });
  }

  test('is replaced however often, as long as the next one starts', async () => {
    start('ready');
    await host.started;
    for (let death = 1; death <= RESTARTS_MAX + 3; death++) {
      host.send({ kind: 'exit', value: death });
      await until('the death is told', () => deaths.length === death);
      await untilWithRestarts('the next one runs', () => host.ready !== undefined);
    }
    expect(host.ready?.start).toBe(RESTARTS_MAX + 4);
  });
});

test('a start that may not be tried again is none of what replaces a worker at work', async () => {
  startWith({ starts: ['ready', 'ready', 'failed'], restartsMax: 0 });
  await host.started;
  host.send({ kind: 'exit', value: 1 });
  await until('the death is told', () => deaths.length === 1);
  await untilWithRestarts('the next one runs', () => host.ready?.start === 2);
  host.send({ kind: 'exit', value: 2 });
  await untilWithRestarts('it gives up', () => host.reason.includes('was started 1 times'));
});

test('a worker that the system has no room for is a start that failed, at a restart too', async () => {
  const { Worker: RealWorker } = globalThis;
  start('ready');
  await host.started;
  globalThis.Worker = class {
    constructor() {
      throw new Error('EAGAIN');
    }
  } as unknown as typeof Worker;
  try {
    host.send({ kind: 'exit', value: 1 });
    await until('the death is told', () => deaths.length === 1);
    await untilWithRestarts('it gives up', () => host.reason.includes('was started'));
    expect(host.reason).toContain('scripted could not be created: Error: EAGAIN');
    expect(host.reason).toContain(`${RESTARTS_MAX + 1} times`);
  } finally {
    globalThis.Worker = RealWorker;
  }
});

describe('a closed host', () => {
  test('has no worker, and never gets one again', async () => {
    start('ready');
    await host.started;
    host.close();
    expect([host.ready, host.reason]).toEqual([undefined, 'scripted was closed.']);
    host.send({ kind: 'answer', value: 1 });
    await clock.advance(100_000);
    expect([counts[0], replies.length, deaths.length]).toEqual([1, 0, 0]);
  });

  test('lets its worker end by itself, and takes no late response for a start', async () => {
    startWith({ starts: ['ready'], shutdown: { kind: 'exit', value: 0 } });
    await host.started;
    host.send({ kind: 'answer', value: 1 });
    host.close();
    await until('the worker has answered and gone', () => counts[1] === 1);
    await clock.advance(100_000);
    expect([host.ready, host.reason]).toEqual([undefined, 'scripted was closed.']);
    expect([counts[0], replies.length, deaths.length]).toEqual([1, 0, 0]);
  });

  test('closed while it waits to start again, it does not', async () => {
    start('failed');
    await untilWithRestarts('the second start has failed', () => loggedDeathCount === 2);
    expect(clock.plannedCount).toBe(1);
    host.close();
    // Past the restart, and not yet past the deadline that a start would have planned.
    await clock.advance(START_MS_MAX / 2);
    expect([counts[0], clock.plannedCount]).toEqual([2, 0]);
  });

  test('closed while it starts, whoever waits for the start is let go', async () => {
    start('silent');
    host.close();
    await host.started;
    expect(host.ready).toBeUndefined();
  });
});
