import { createAdmission } from '../../admission/admission.ts';
import { ServerError } from '../../base/errors.ts';
import { batcherHarness, uniqueText } from '../batcher-harness.ts';
import { createFakeBackend } from '../fake-backend.ts';
import { VirtualClock } from '../virtual-clock.ts';
import { MACHINES, serversOf } from './callers-load.ts';

/** How a client sends a corpus. */
export interface Habit {
  readonly name: string;
  readonly perCall: number;
  readonly callsAtOnce: number;
  readonly tries: number;
}

export const HABITS = [
  { name: 'AI SDK', perCall: 2048, callsAtOnce: 1000, tries: 3 },
  { name: 'gather of 16', perCall: 16, callsAtOnce: 1e5, tries: 3 },
  { name: 'OpenAI, 8 at once', perCall: 256, callsAtOnce: 8, tries: 3 },
  { name: 'LangChain', perCall: 1000, callsAtOnce: 1, tries: 3 },
  { name: 'no second try', perCall: 256, callsAtOnce: 1000, tries: 1 },
] as const satisfies readonly Habit[];

const QUEUE_TEXTS = 8192;

/** What became of a corpus' calls, and of a query each 100 ms beside them. */
export interface HoldRun {
  /** Calls that were answered, and those that were given up. */
  readonly doneCount: number;
  readonly lostCount: number;
  /** Tries that ended in 429, and in 504. */
  readonly refusedCount: number;
  readonly lateCount: number;
  readonly seconds: number;
  readonly queryP99: number;
}

/**
 * Sends a corpus as a client does, to the embedded default on a virtual clock.
 *
 * @param options.slow how many times slower the machine is than two usual cores.
 */
export async function runHold(options: {
  habit: Habit;
  textCount: number;
  /** Of each text. */
  tokens: number;
  slow: number;
  holdMs: number;
  requestTimeoutMs: number;
}): Promise<HoldRun> {
  const { habit, textCount, tokens, slow, holdMs, requestTimeoutMs } = options;
  const clock = new VirtualClock();
  const { spare } = MACHINES;
  const batchMs: typeof spare.batchMs = (lengths, padded) => slow * spare.batchMs(lengths, padded);
  const onBatch = serversOf({ ...spare, batchMs }, clock);
  const backend = createFakeBackend({ limits: spare.limits, onBatch });
  const { batcher, submit } = batcherHarness({ backend, clock, holdShare: 0.5 });
  const admission = createAdmission({
    ...{ clock, textCountMax: QUEUE_TEXTS, tokenCountMax: 4_194_304, timeoutMs: requestTimeoutMs },
    backlog: batcher.foreground,
    hold: { holdMs, holdTextsMax: 65_536, holdBytesMax: 33_554_432 },
  });
  const counts = { done: 0, refused: 0, late: 0, lost: 0 };

  /** One try. @returns undefined when it was answered, or after how long to try again. */
  async function attempt(caller: string, count: number): Promise<number | undefined> {
    const tokenCount = count * tokens;
    try {
      const permit = await admission.enter({ textCount: count, tokenCount, caller }, undefined);
      try {
        permit.tokenized(tokenCount);
        await new Promise<void>((resolve, reject) => {
          const texts = Array.from({ length: count }, () => uniqueText(tokens));
          const job = submit(texts, {
            ...{ caller, timeoutMs: requestTimeoutMs },
            onSettled: () => queueMicrotask(() => (job.error ? reject(job.error) : resolve())),
          });
        });
      } finally {
        permit.release();
      }
      return undefined;
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      if (caller === 'job') counts[error.code === 'EMB_QUEUE_FULL' ? 'refused' : 'late']++;
      return Number(error.details.retryAfterMs ?? 2000);
    }
  }

  async function send(): Promise<void> {
    for (let tried = 1; ; tried++) {
      const againMs = await attempt('job', habit.perCall);
      if (againMs === undefined) counts.done++;
      if (againMs === undefined) return;
      if (tried >= habit.tries) break;
      await new Promise<void>((resolve) => clock.schedule(againMs, resolve));
    }
    counts.lost++;
  }

  const waits: number[] = [];
  let endMs = 0;
  const ask = (): void => {
    if (endMs > 0) return;
    const startMs = clock.now();
    void attempt('person', 1).then(() => waits.push(clock.now() - startMs));
    clock.schedule(100, ask);
  };
  let left = Math.floor(textCount / habit.perCall);
  const worker = async (): Promise<void> => {
    while (left-- > 0) await send();
  };
  const workers = Array.from({ length: Math.min(left, habit.callsAtOnce) }, worker);
  void Promise.all(workers).then(() => {
    endMs = clock.now();
  });
  ask();
  await clock.advance(2e6);
  waits.sort((a, b) => a - b);
  return {
    doneCount: counts.done,
    lostCount: counts.lost,
    refusedCount: counts.refused,
    lateCount: counts.late,
    seconds: endMs / 1000,
    queryP99: waits[Math.floor(0.99 * (waits.length - 1))] ?? 0,
  };
}
