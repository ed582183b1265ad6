/**
 * Writes every float32 there is as JSON, and reads it back.
 * Every finite pattern must read back to itself, by `Math.fround(JSON.parse(…))` as by a parser
 * that rounds once; of every 251st, no decimal may be shorter, nor as short and nearer. Takes a
 * quarter of an hour or so on two cores.
 *
 * The exit status is 1 when a pattern failed.
 */
import { availableParallelism } from 'node:os';
import { count, readFlags } from '../flags.ts';
import type { SimBlock, SimBlockResult } from './float32-json-worker.ts';

const PATTERNS = 2 ** 32;
/**
 * A block takes a second or so: often enough for progress, and little is lost when a run is
 * stopped.
 */
const BLOCK_PATTERNS = 2 ** 22;
const FAULTS_SHOWN_MAX = 20;

interface Run {
  readonly from: number;
  readonly to: number;
  readonly workers: number;
  readonly lengthEvery: number;
}

function parseRun(): Run {
  const values = readFlags(import.meta.path, {
    from: count(
      0,
      [0, PATTERNS - 1],
      'the first pattern to check; a stopped run says where to go on',
    ),
    to: count(PATTERNS, [1, PATTERNS], 'the one after the last'),
    workers: count(availableParallelism(), [1, 1024], 'threads'),
    'length-every': count(251, [1, PATTERNS], 'checks the length of every Nth pattern'),
  });
  const { from, to, workers } = values;
  const run = { from, to, workers, lengthEvery: values['length-every'] };
  if (from < to) return run;
  console.error('scripts/sim/float32-json-sim.ts: --from must be below --to.');
  process.exit(2);
}

/**
 * What has been done: blocks end out of order, and a run goes on from the first one that has not
 * ended.
 */
class Progress {
  readonly #startMs = performance.now();
  readonly #open = new Set<number>();
  readonly #run: Run;
  #next: number;
  #checked = 0;
  #lengthChecked = 0;
  #faultCount = 0;

  constructor(run: Run) {
    this.#run = run;
    this.#next = run.from;
  }

  take(): SimBlock | undefined {
    const first = this.#next;
    if (first >= this.#run.to) return undefined;
    const count = Math.min(BLOCK_PATTERNS, this.#run.to - first);
    this.#next += count;
    this.#open.add(first);
    return { first, count, lengthEvery: this.#run.lengthEvery };
  }

  end({ first }: SimBlock, result: SimBlockResult): void {
    this.#open.delete(first);
    this.#checked += result.checked;
    this.#lengthChecked += result.lengthChecked;
    for (const fault of result.faults) {
      if (this.#faultCount++ < FAULTS_SHOWN_MAX) console.log(fault);
    }
  }

  /** All patterns before this one are done. */
  get resumeAt(): number {
    return Math.min(this.#next, ...this.#open);
  }

  report(): string {
    const seconds = (performance.now() - this.#startMs) / 1000;
    const { from, to } = this.#run;
    const percent = ((100 * (this.resumeAt - from)) / (to - from)).toFixed(1);
    return (
      `${percent} %, ${this.#checked} read back, ${this.#lengthChecked} checked for length, ` +
      `${this.#faultCount} faults, ${seconds.toFixed(0)} s; go on with --from ${this.resumeAt}`
    );
  }

  get hasFailed(): boolean {
    return this.#faultCount > 0;
  }
}

function work(progress: Progress, ended: () => void): Promise<void> {
  const worker = new Worker(new URL('./float32-json-worker.ts', import.meta.url).href);
  return new Promise((resolve, reject) => {
    let block: SimBlock | undefined;
    const next = (): void => {
      block = progress.take();
      if (block === undefined) {
        worker.terminate();
        resolve();
      } else worker.postMessage(block);
    };
    worker.onmessage = (event: MessageEvent<SimBlockResult>) => {
      if (block !== undefined) progress.end(block, event.data);
      ended();
      next();
    };
    worker.onerror = (event) => reject(new Error(`A worker failed: ${event.message}`));
    next();
  });
}

const run = parseRun();
const progress = new Progress(run);
process.on('SIGINT', () => {
  console.log(`Stopped: ${progress.report()}`);
  process.exit(130);
});
let blocks = 0;
const onBlock = (): void => {
  if (++blocks % 16 === 0) console.log(progress.report());
};
await Promise.all(Array.from({ length: run.workers }, () => work(progress, onBlock)));
console.log(`Done: ${progress.report()}`);
process.exitCode = progress.hasFailed ? 1 : 0;
