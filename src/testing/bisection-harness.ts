import { expect } from 'bun:test';
import {
  type Backend,
  BackendFault,
  type BackendLimits,
  type InferOptions,
  type TokenBatch,
} from '../backend/contract.ts';
import { ServerError } from '../base/errors.ts';
import { createBisection, Quarantine, type RunningText } from '../batcher/bisection.ts';
import { FloatBlock, headSet, type TextOutput } from '../vectors/output.ts';
import { VirtualClock } from './virtual-clock.ts';

const DENSE = headSet(['dense']);
const LIMITS: BackendLimits = {
  slotCount: 1,
  endpointCount: 1,
  batchTextsMax: 64,
  batchTokensMax: 1000,
  multiVectorTokensMax: 1000,
  launchTokens: 0,
  isOneByOne: true,
};

/** A text of a batch. */
export interface TestText extends RunningText {
  readonly name: number;
  readonly request: { isSettled: boolean };
}

/** A row of length one that tells its text. */
export function rowOf(ids: Int32Array): number[] {
  const angle = ids.reduce((sum, id) => sum * 31 + id, 7) % 6.28;
  return [Math.cos(angle), Math.sin(angle)];
}

/** What the backend makes of a batch: its rows, or a throw. */
export type Behave = (texts: readonly Int32Array[], options: InferOptions) => number[][];

/** A bisection over a backend that behaves as it is told, and all that became of its texts. */
export function harness(behave: Behave, limits: Partial<BackendLimits> = {}) {
  const calls: { size: number; avoid: string | undefined }[] = [];
  const outcomes = new Map<number, unknown>();
  let isDown = false;
  const clock = new VirtualClock();
  const quarantine = new Quarantine(clock);
  const backend: Pick<Backend, 'infer' | 'doubt'> = {
    doubt: async () => undefined,
    async infer(batch: TokenBatch, options: InferOptions = {}) {
      calls.push({ size: batch.texts.length, avoid: options.avoid });
      const rows = behave(batch.texts, options);
      return { servedBy: 'one', dense: FloatBlock.of(Float32Array.from(rows.flat())) };
    },
  };
  const settle = (text: TestText, outcome: TextOutput | ServerError): void => {
    expect(outcomes.has(text.name)).toBe(false);
    outcomes.set(
      text.name,
      outcome instanceof ServerError ? outcome.code : [...(outcome.dense ?? [])],
    );
  };
  const bisection = createBisection<TestText>({
    backend: backend as Backend,
    expected: { dimension: 2, isNormalized: true },
    quarantine,
    whenReady: async () => !isDown,
    settle,
  });
  const texts = (count: number): TestText[] =>
    Array.from({ length: count }, (_, name) => {
      const ids = Int32Array.of(0, 10 + name, 2);
      return { name, ids, paddedLength: 8, heads: DENSE, request: { isSettled: false } };
    });
  const run = async (all: readonly TestText[]) => {
    const abort = new AbortController();
    const batch = { texts: all, abort, limits: { ...LIMITS, ...limits }, lent: [] };
    const first = await bisection.attempt(batch);
    const toldCount = outcomes.size;
    const isRight = first.failed.length === 0;
    if (isRight) for (const [at, text] of all.entries()) settle(text, first.outputs[at]);
    const rescueCallCount = isRight ? 0 : await bisection.rescue(batch, first);
    return { error: first.failed[0]?.error, rescueCallCount, isRight, toldCount };
  };
  const goDown = (): void => {
    isDown = true;
  };
  return { calls, outcomes, quarantine, texts, run, goDown };
}

/** The right row of each text. */
export const right = (texts: readonly Int32Array[]): number[][] => texts.map(rowOf);
/** A row as float32 has it. */
export const float = (row: number[]): number[] => [...Float32Array.from(row)];

/** A batch that failed, or that killed its worker. */
export function failed(isDeath = false, servedBy = 'one'): ServerError {
  return new ServerError('EMB_BACKEND_FAILED', 'no', {
    cause: new BackendFault('no', { servedBy, isDeath }),
  });
}
