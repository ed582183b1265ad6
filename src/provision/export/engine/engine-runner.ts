import { constants } from 'node:os';
import type { CommandResult } from '../../run-command.ts';

/**
 * Where `trtexec` and Triton run while an engine is made: in containers of Triton's image
 * (`docker.ts`), or beside this process, which is in such a container itself (`in-place.ts`).
 */
export interface EngineRunner {
  /** `in triton:1`, for messages. */
  readonly place: string;
  /**
   * Demands what it takes, before anything is downloaded for it.
   *
   * @throws ProvisionError with the way out.
   */
  check(): Promise<void>;
  /**
   * Makes the programs ready to run.
   *
   * @throws ProvisionError
   */
  prepare(say: (line: string) => void): Promise<void>;
  /** What tells one content of an image from another; undefined before `prepare`, maybe. */
  findImageId(): Promise<string | undefined>;
  /** Runs `trtexec` to its end. */
  runTrtexec(call: TrtexecCall): Promise<CommandResult & { readonly command: string }>;
  /**
   * Starts a Triton that serves one model of a repository on loopback.
   *
   * @throws ProvisionError when it does not even start.
   */
  startTriton(options: { repository: string; model: string }): Promise<RunningCandidate>;
  /** Ends what it has started, and what an export that was killed has left behind. */
  clear(): Promise<void>;
}

/** Folders of a build, as absolute paths. */
export interface BuildFolders {
  /** The graph's, which is only read. */
  readonly onnx: string;
  readonly plan: string;
  /** Logs and the timing cache. */
  readonly cache: string;
}

/** One run of `trtexec`. */
export interface TrtexecCall {
  /** Those that it reads and writes; none for `--help`. */
  readonly folders?: BuildFolders;
  /** @param seen the folders as `trtexec` sees them. */
  line(seen: BuildFolders): readonly string[];
}

/** A Triton of `startTriton`. Whoever started it stops it. */
export interface RunningCandidate {
  /** Undefined once it has ended. */
  findUrl(): Promise<string | undefined>;
  isRunning(): Promise<boolean>;
  /** @returns the end of its log. */
  stop(): Promise<string>;
}

/** Of a log: enough to hold the first error of a Triton that could not load its only model. */
export const LOG_LINE_COUNT = 50;

/** Arguments of `tritonserver` that serve one model to the gate. */
export function candidateArguments(repository: string, model: string): string[] {
  return [
    `--model-repository=${repository}`,
    '--allow-grpc=false',
    '--allow-metrics=false',
    // It would put a `dynamic_batching` back, which joins batches past their profile.
    '--disable-auto-complete-config',
    ...['--model-control-mode=explicit', `--load-model=${model}`],
  ];
}

/**
 * Runs work that starts programs, and leaves none of them behind: those of an export that was
 * killed are ended before, its own when it is told to end. They hold the memory of the GPU.
 *
 * @param options.cleanUp removes what else must not stay when a signal ends the export.
 */
export async function withRunner<T>(options: {
  readonly runner: EngineRunner;
  readonly work: () => Promise<T>;
  readonly cleanUp: () => Promise<void>;
}): Promise<T> {
  const { runner } = options;
  await runner.clear();
  let ending: Promise<void> | undefined;
  const end = (signal: 'SIGINT' | 'SIGTERM') => {
    ending ??= runner
      .clear()
      .then(options.cleanUp)
      .finally(() => process.exit(128 + constants.signals[signal]));
  };
  process.on('SIGINT', end).on('SIGTERM', end);
  try {
    return await options.work();
  } finally {
    // The work fails when its programs go: that is not what ended the export.
    await ending;
    process.off('SIGINT', end).off('SIGTERM', end);
  }
}
