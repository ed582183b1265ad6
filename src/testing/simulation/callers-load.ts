import { createAdmission } from '../../admission/admission.ts';
import type { BackendLimits } from '../../backend/contract.ts';
import { ServerError } from '../../base/errors.ts';
import { SHARING, type SharingLimits } from '../../batcher/caller-queue.ts';
import { textCostOf } from '../../batcher/plan.ts';
import { batcherHarness, uniqueText } from '../batcher-harness.ts';
import { createFakeBackend, type FakeBatch } from '../fake-backend.ts';
import { seededRandom } from '../seeded-random.ts';
import { VirtualClock } from '../virtual-clock.ts';

/** Servers or sessions that each compute one batch at a time, on some cores. */
export interface CallersMachine {
  readonly name: string;
  readonly limits: Partial<BackendLimits>;
  /** Servers that compute side by side, the one kept for people included. */
  readonly serverCount: number;
  /** What they share: with more at work, each is slower. */
  readonly coreCount: number;
  /** Of a batch, with a core of its own. */
  batchMs(lengths: readonly number[], paddedLength: number): number;
  /** From the moment a batch leaves until its server could begin with it. */
  readonly bringMs: number;
}

function tritonOf(options: {
  name: string;
  launchMs: number;
  tokensPerMs: number;
  batchTextsMax: number;
}): CallersMachine {
  const { name, launchMs, tokensPerMs, batchTextsMax } = options;
  const lengthTokens = 6_144;
  return {
    name,
    limits: {
      ...{ slotCount: 2, batchTextsMax, batchTokensMax: 16_384, multiVectorTokensMax: 16_384 },
      ...{ launchTokens: launchMs * tokensPerMs, lengthTokens },
    },
    serverCount: 1,
    coreCount: 1,
    bringMs: 1,
    batchMs: ({ length }, paddedLength) =>
      launchMs + (length * textCostOf(paddedLength, { lengthTokens })) / tokensPerMs,
  };
}

/** One text on one thread of the default model, and what a message costs beside it. */
const TEXT_MS = 0.7;
const TOKEN_MS = 0.17;
const MESSAGE_MS = 0.65;

function embeddedOf(name: string, limits: Partial<BackendLimits>): CallersMachine {
  const sessionCount = 2 + (limits.spareSlotCount ?? 0);
  return {
    name,
    limits: {
      ...{ slotCount: 2, endpointCount: 2, batchTextsMax: 16, batchTokensMax: 320 },
      ...{ multiVectorTokensMax: 320, launchTokens: 0, isOneByOne: true, ...limits },
    },
    serverCount: sessionCount,
    coreCount: 2,
    bringMs: 0.1,
    batchMs: (lengths) =>
      lengths.reduce((sum, length) => sum + TEXT_MS + TOKEN_MS * length, MESSAGE_MS),
  };
}

/** The timed Triton of `scripts/sim/two-callers.ts`, a middling GPU, two cores of a CPU. */
export const MACHINES = {
  timed: tritonOf({
    name: 'timed Triton, 20 ms a launch',
    launchMs: 20,
    tokensPerMs: 40,
    batchTextsMax: 32,
  }),
  gpu: tritonOf({ name: 'GPU, 4 ms a launch', launchMs: 4, tokensPerMs: 120, batchTextsMax: 64 }),
  embedded: embeddedOf('embedded, two sessions', {}),
  spare: embeddedOf('embedded, two sessions and a spare one', { spareSlotCount: 1 }),
} as const;

/** What one caller sends at once. */
export interface Burst {
  readonly textCount: number;
  readonly perCall: number;
  readonly tokens: readonly [min: number, max: number];
}

/** What a query waits beside a burst, and what the burst takes. */
export interface CallersRun {
  readonly p50: number;
  readonly p99: number;
  readonly queryCount: number;
  /** From the first call to the last reply; 0 without a burst. */
  readonly burstMs: number;
  readonly refusedCount: number;
}

const QUERY_EVERY_MS = 100;
/** Queries of the first two seconds warm the batcher up. */
const WARM_UP_MS = 2000;
const QUIET_MS = 12_000;
const QUERY_TOKENS = [5, 12] as const;

/** Another caller's query each 100 ms, beside a burst or alone. */
export async function runCallers(options: {
  readonly machine: CallersMachine;
  readonly burst?: Burst;
  readonly queueTextsMax?: number;
  readonly seed?: number;
  readonly sharing?: SharingLimits;
  /** The batcher is not told whose requests they are. */
  readonly isBlind?: boolean;
}): Promise<CallersRun> {
  const { machine, burst, queueTextsMax = 1024, seed = 1, isBlind } = options;
  const { sharing = SHARING } = options;
  const random = seededRandom(seed);
  const clock = new VirtualClock();
  const backend = createFakeBackend({ limits: machine.limits, onBatch: serversOf(machine, clock) });
  const { batcher, submit } = batcherHarness({ backend, clock, holdShare: 0.5, sharing });
  const admission = createAdmission({
    ...{ clock, textCountMax: queueTextsMax, tokenCountMax: 4_194_304, timeoutMs: 60_000 },
    backlog: batcher.foreground,
    hold: { holdMs: 60_000, holdTextsMax: 1e6, holdBytesMax: 33_554_432 },
  });
  let refusedCount = 0;

  async function call(caller: string, lengths: readonly number[]): Promise<number> {
    const startMs = clock.now();
    const tokenCount = lengths.reduce((sum, length) => sum + length, 0);
    try {
      const demand = { textCount: lengths.length, tokenCount, caller };
      const permit = await admission.enter(demand, undefined);
      await new Promise<void>((resolve) => {
        submit(
          lengths.map((length) => uniqueText(length)),
          { onSettled: resolve, ...(isBlind ? {} : { caller }) },
        );
      });
      permit.release();
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      refusedCount++;
    }
    return clock.now() - startMs;
  }

  const lengthsOf = (count: number, between: readonly [number, number]): number[] =>
    Array.from({ length: count }, () => random.between(...between));
  let burstMs = 0;
  let isOver = burst === undefined;
  let askedBeside = Number.POSITIVE_INFINITY;
  const open: Promise<number>[] = [];
  const ask = (): void => {
    if (isOver && clock.now() > QUIET_MS) return;
    const query = call('stranger', lengthsOf(1, QUERY_TOKENS));
    open.push(query);
    clock.schedule(QUERY_EVERY_MS + random.below(2000) / 100 - 10, ask);
  };
  ask();
  await clock.advance(WARM_UP_MS);
  const warmUpCount = open.length;
  if (burst !== undefined) void sendBurst(burst);
  await clock.advance(1e6);
  const latencies = (await Promise.all(open)).slice(warmUpCount, askedBeside).sort((a, b) => a - b);
  const at = (share: number): number => latencies[Math.floor(share * (latencies.length - 1))] ?? 0;
  return { p50: at(0.5), p99: at(0.99), queryCount: latencies.length, burstMs, refusedCount };

  async function sendBurst({ textCount, perCall, tokens }: Burst): Promise<void> {
    const startMs = clock.now();
    const calls = Array.from({ length: textCount / perCall }, () =>
      call('burst', lengthsOf(perCall, tokens)),
    );
    await Promise.all(calls);
    burstMs = clock.now() - startMs;
    isOver = true;
    askedBeside = open.length;
  }
}

interface Running {
  readonly batch: FakeBatch;
  leftMs: number;
}

/** Batches go to the server with the fewest; those that compute share the cores. */
export function serversOf(
  machine: CallersMachine,
  clock: VirtualClock,
): (batch: FakeBatch) => void {
  const { serverCount, coreCount, bringMs, batchMs } = machine;
  const servers: Running[][] = Array.from({ length: serverCount }, () => []);
  let changedMs = 0;
  let cancel = (): void => undefined;
  const atWork = (): Running[] =>
    servers.flatMap(([first]) => (first === undefined ? [] : [first]));
  const pass = (): void => {
    const speed = Math.min(1, coreCount / Math.max(1, atWork().length));
    for (const one of atWork()) one.leftMs -= (clock.now() - changedMs) * speed;
    changedMs = clock.now();
  };
  const goOn = (): void => {
    cancel();
    const running = atWork();
    if (running.length === 0) return;
    const speed = Math.min(1, coreCount / running.length);
    const next = running.reduce((a, b) => (b.leftMs < a.leftMs ? b : a));
    cancel = clock.schedule(Math.max(0, next.leftMs) / speed, () => {
      pass();
      servers.find(([first]) => first === next)?.shift();
      next.batch.finish();
      goOn();
    });
  };
  return (batch) => {
    clock.schedule(bringMs, () => {
      pass();
      const idlest = servers.reduce((a, b) => (b.length < a.length ? b : a));
      const lengths = batch.texts.map((ids) => ids.length);
      idlest.push({ batch, leftMs: batchMs(lengths, batch.paddedLength) });
      goOn();
    });
  };
}
