import { runChild } from '../run-child.ts';

/** Loading a model takes seconds on a busy machine; a long text a fraction of one. */
const GRACE_MS = 120_000;

/**
 * Runs ONNX Runtime without a server, in a process of its own: texts tokenized beforehand, no
 * queue, no HTTP.
 *
 * @throws Error when the process fails or hangs; it is ended then.
 */
export function runBare(plan: BarePlan): Promise<BareResult> {
  return runChild<BareResult, BareResult>({
    name: 'The bare run',
    script: `${import.meta.dir}/bare-run.ts`,
    plan,
    msMax: plan.warmUpMs + plan.measureMs + GRACE_MS,
    // The runtime would otherwise report to its maker.
    environment: { ORT_DISABLE_TELEMETRY: '1' },
    onMessage: (message, { resolve }) => resolve(message),
  });
}

/** What the bare run is told, and what its threads are. Plain data: it goes to another process. */
export interface BarePlan {
  /** The ONNX file. */
  readonly modelPath: string;
  /** Name of the output with one row a text. */
  readonly output: string;
  /** Token ids of the texts, special tokens included. */
  readonly texts: readonly (readonly number[])[];
  /** Sessions side by side, each on a thread of its own, one text at a time. */
  readonly sessionCount: number;
  /** Threads that each session computes with. */
  readonly threadCount: number;
  readonly warmUpMs: number;
  /** 0: only the rows are wanted. */
  readonly measureMs: number;
}

/** What a thread is told. */
export interface BareThreadPlan extends BarePlan {
  /** One counter that all threads draw their next text from. */
  readonly next: SharedArrayBuffer;
  readonly index: number;
}

/** What the bare run found. */
export interface BareResult {
  readonly textsPerSecond: number;
  /** Time of one text, in ms. */
  readonly p50Ms: number;
  /** `[dimension]` float32 of each text, where `measureMs` is 0. */
  readonly rows: readonly Float32Array[];
}

/** What a thread found. */
export interface BareThreadResult {
  readonly textCount: number;
  /** In ms, one a text. */
  readonly times: Float64Array;
  readonly rows: readonly Float32Array[];
}
