import type { Clock } from '../../base/clock.ts';
import { STALL_MS } from './endpoint-history.ts';
import type { TritonReply, TritonRequest } from './triton-call.ts';

/**
 * Shortest time to answer whether it lives, in ms: a busy server answers that between two batches,
 * a stopped one never.
 */
const LIVENESS_MS_MIN = 1000;

/**
 * Questions that a server may leave unanswered in a row. To be down costs it the batches that it
 * has, and one may be lost on the way, or come while it is stopped for a moment.
 */
const SILENCES_MAX = 2;

/** Whether a server lives: what it answers beside its batches, however many it has. */
export interface Liveness {
  /**
   * It has left the last question unanswered, and has said nothing since: it gets no further
   * callers. What it has is left there, as it may only have been stopped for a while.
   */
  readonly isSilent: boolean;
  /** When the last question was settled, in ms. */
  readonly settledMs: number;
  /** Whether a question is on its way, or was settled a moment ago. */
  readonly isFresh: boolean;
  /** One question at a time. @returns false when too many were left unanswered. */
  ask(): Promise<boolean>;
  /** It has said something, or is down: what it left unanswered counts no more. */
  clear(): void;
}

/** @param options.onChange called each time that it has become silent, or is so no more. */
export function createLiveness(options: {
  url: string;
  probeMs: number;
  timeoutMs: number;
  call: (request: TritonRequest) => Promise<TritonReply>;
  clock: Clock;
  onChange: () => void;
}): Liveness {
  const { probeMs, clock } = options;
  const address = `${options.url}/v2/health/live`;
  const timeoutMs = Math.min(Math.max(LIVENESS_MS_MIN, probeMs), options.timeoutMs);
  let silenceCount = 0;
  let isSilent = false;
  let asking: Promise<boolean> | undefined;
  let settledMs = Number.NEGATIVE_INFINITY;
  let clearedMs = Number.NEGATIVE_INFINITY;

  function setSilent(isSo: boolean): void {
    if (isSilent === isSo) return;
    isSilent = isSo;
    options.onChange();
  }

  function clear(): void {
    clearedMs = clock.now();
    silenceCount = 0;
    setSilent(false);
  }

  async function question(): Promise<boolean> {
    const askedMs = clock.now();
    try {
      await options.call({ address, isFreshConnection: true, timeoutMs });
      clear();
    } catch {
      // In a stall of our own, the answer may lie here unread.
      const isOurs = clock.now() - askedMs > timeoutMs + STALL_MS;
      if (!isOurs && clearedMs <= askedMs) {
        silenceCount++;
        setSilent(true);
      }
    }
    asking = undefined;
    settledMs = clock.now();
    return silenceCount < SILENCES_MAX;
  }

  return {
    get isSilent() {
      return isSilent;
    },
    get settledMs() {
      return settledMs;
    },
    get isFresh() {
      return asking !== undefined || clock.now() - settledMs < probeMs;
    },
    ask() {
      asking ??= question();
      return asking;
    },
    clear,
  };
}
