import type { WorkerStart } from '../../base/worker-host.ts';

declare const self: Worker;

/**
 * What the worker does as it starts, one word a start; the last word holds for all further ones.
 */
export type StartScript = 'ready' | 'failed' | 'throws' | 'exits' | 'silent';

/** The first message: how to start, and a counter of starts that all of them share. */
export interface ScriptedInit {
  readonly starts: readonly StartScript[];
  /** Two int32: how many have started, and how many were told to exit. */
  readonly counts: SharedArrayBuffer;
}

/** A job: what to do with it. */
export interface ScriptedRequest {
  readonly kind: 'answer' | 'throw' | 'exit' | 'keep';
  readonly value: number;
}

/** What a worker says that is ready that is ready: the how many-eth start it was, from 1. */
export interface ScriptedReady {
  readonly start: number;
}

/** A worker for tests of what holds workers: it starts and dies as it is told. */
let counts: Int32Array<SharedArrayBuffer> | undefined;

self.onmessage = (event: MessageEvent<ScriptedInit | ScriptedRequest>) => {
  if (counts === undefined) {
    const init = event.data as ScriptedInit;
    counts = new Int32Array(init.counts);
    begin(init.starts, Atomics.add(counts, 0, 1) + 1);
    return;
  }
  const { kind, value } = event.data as ScriptedRequest;
  if (kind === 'answer') self.postMessage({ value: value * 2 });
  if (kind === 'throw') throw new Error(`job ${value} is too much`);
  if (kind === 'exit') {
    Atomics.add(counts, 1, 1);
    process.exit(7);
  }
};

function begin(starts: readonly StartScript[], start: number): void {
  const script = starts[Math.min(start, starts.length) - 1];
  const say = (first: WorkerStart<ScriptedReady>): void => self.postMessage(first);
  if (script === 'ready') say({ kind: 'ready', ready: { start } });
  if (script === 'failed') say({ kind: 'failed', reason: `start ${start} found no model` });
  if (script === 'throws') throw new Error(`start ${start} went wrong`);
  if (script === 'exits') process.exit(3);
}
