import { describe, expect, test } from 'bun:test';
import { CRASH, play, playRunning } from '../../testing/supervisor-harness.ts';

/**
 * The supervisor over processes that are played by the test.
 *
 * Faults that were planted by hand, and that this suite caught: no bound on restarts, no restart at
 * all, every process started at once, a hopeless start tried again, no wait for the drain.
 */

describe('the start', () => {
  test('the first alone, the others when it listens, one banner when all do', () => {
    const { processes, banners } = play({ count: 3 });
    expect(processes.map(({ index }) => index)).toEqual([0]);
    processes[0].listens();
    expect(processes.map(({ index }) => index)).toEqual([0, 1, 2]);
    processes[2].listens();
    expect(banners).toEqual([]);
    processes[1].starts();
    expect(banners).toEqual(['banner of 1']);
  });

  test.each([2, 3, 4])(
    'a status %d that says why is not tried again, and is passed on',
    async (status) => {
      const { processes, ended } = play();
      processes[0].starts();
      processes[1].end({ status, signal: null });
      // Nobody was told of this server yet: there is no balancer to wait for.
      expect(processes[0].signals).toEqual(['SIGINT']);
      expect(await ended()).toBeUndefined();
      processes[0].end({ status: 0, signal: null });
      expect(await ended()).toBe(status);
    },
  );

  test('a crash is tried again, each time later, until it is enough', async () => {
    const { clock, processes, events, ended } = play();
    processes[0].end(CRASH);
    await clock.advance(0);
    expect(processes).toHaveLength(2);
    processes[1].end(CRASH);
    await clock.advance(99);
    expect(processes).toHaveLength(2);
    await clock.advance(1);
    expect(processes).toHaveLength(3);
    processes[2].end(CRASH);
    expect(await ended()).toBe(1);
    await clock.advance(100_000);
    expect(processes).toHaveLength(3);
    expect(events.filter((event) => event === 'process-given-up')).toHaveLength(1);
  });

  test('one that never listens is ended', async () => {
    const { clock, processes } = play();
    await clock.advance(999);
    expect(processes[0].signals).toEqual([]);
    await clock.advance(1);
    expect(processes[0].signals).toEqual(['SIGKILL']);
  });

  test('a system that has no room for a process is a death like others', async () => {
    const startProcess = (): never => {
      throw new Error('EAGAIN');
    };
    const { clock, events, ended } = play({ startProcess });
    await clock.advance(100_000);
    expect(await ended()).toBe(1);
    expect(events.filter((event) => event === 'process-died')).toHaveLength(3);
  });
});

describe('a death', () => {
  test('of one that has worked is followed by another at once, however often', async () => {
    const { clock, processes, ended } = playRunning();
    for (let death = 0; death < 10; death++) {
      processes.at(-1)?.end(CRASH);
      await clock.advance(0);
      processes.at(-1)?.starts();
    }
    expect(processes).toHaveLength(12);
    expect(await ended()).toBeUndefined();
  });

  test('at work is none of the starts that are counted', async () => {
    const { clock, processes, ended } = playRunning({ restartsMax: 0 });
    processes[0].end(CRASH);
    await clock.advance(0);
    expect(processes).toHaveLength(3);
    processes[2].end(CRASH);
    await clock.advance(100_000);
    expect(processes).toHaveLength(3);
    expect(await ended()).toBeUndefined();
  });

  test('for good leaves the other serving; the last one ends the whole', async () => {
    const { clock, processes, ended } = playRunning({ restartsMax: 0 });
    processes[0].end(CRASH);
    await clock.advance(0);
    processes[2].end(CRASH);
    await clock.advance(100_000);
    expect(processes).toHaveLength(3);
    expect(processes[1].signals).toEqual([]);
    expect(await ended()).toBeUndefined();
    processes[1].end(CRASH);
    await clock.advance(0);
    processes[3].end({ status: 7, signal: null });
    expect(await ended()).toBe(7);
  });
});

describe('a drain', () => {
  test('ends when all have ended well, with 0; nothing is started on the way', async () => {
    const { clock, processes, supervisor, ended } = playRunning();
    supervisor.onSignal('SIGTERM');
    expect(processes.map(({ signals }) => signals)).toEqual([['SIGTERM'], ['SIGTERM']]);
    processes[0].end({ status: 0, signal: null });
    await clock.advance(100);
    expect(await ended()).toBeUndefined();
    processes[1].end({ status: 0, signal: null });
    expect(await ended()).toBe(0);
    expect(processes).toHaveLength(2);
  });

  test('tells when a process crashed over it', async () => {
    const { processes, supervisor, ended } = playRunning();
    supervisor.onSignal('SIGTERM');
    processes[0].end(CRASH);
    processes[1].end({ status: 0, signal: null });
    expect(await ended()).toBe(1);
  });

  test('past its time ends what is left', async () => {
    const { clock, processes, supervisor, events, ended } = playRunning();
    supervisor.onSignal('SIGTERM');
    await clock.advance(500);
    expect(processes[1].signals).toEqual(['SIGTERM', 'SIGKILL']);
    for (const process of processes) process.end({ status: null, signal: 'SIGKILL' });
    expect(await ended()).toBe(0);
    expect(events).toContain('drain-cut-short');
  });

  test('while a process is to be replaced starts none', async () => {
    const { clock, processes, supervisor, ended } = playRunning();
    processes[0].end(CRASH);
    supervisor.onSignal('SIGTERM');
    await clock.advance(100);
    processes[1].end({ status: 0, signal: null });
    expect(await ended()).toBe(0);
    expect(processes).toHaveLength(2);
  });

  test('a second signal kills, with 130', async () => {
    const { processes, supervisor, ended } = playRunning();
    supervisor.onSignal('SIGINT');
    supervisor.onSignal('SIGINT');
    expect(processes[0].signals).toEqual(['SIGINT', 'SIGKILL']);
    expect(await ended()).toBe(130);
  });
});
