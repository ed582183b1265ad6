import type { Arrival, LoadResult, PlannedRequest } from './load/load-plan.ts';
import { applyLoad } from './load/load-process.ts';
import type { ReplyKind } from './load/rows-of-reply.ts';
import type { LoadPoint } from './report/bench-report.ts';
import { progressOf } from './run-script.ts';
import type { BenchTarget } from './target/bench-target.ts';
import { usageOf } from './target/process-usage.ts';

/**
 * A request without a reply by then counts as failed. Far above what any load here takes when it
 * does not pile up.
 */
const TIMEOUT_MS = 30_000;

/** Connections of an open load: more would wait in the server's queue anyway. */
const CONNECTIONS_MAX = 512;

/** How long a load is applied, and with which randomness. */
export interface MeasureTimes {
  readonly warmUpMs: number;
  readonly measureMs: number;
  readonly seed: number;
}

/** Thrown instead of a report: a figure of a server that answers wrongly is worth nothing. */
export class WrongReplyError extends Error {
  override readonly name = 'WrongReplyError';
}

/**
 * Puts one load on a server.
 *
 * @throws WrongReplyError when any reply was wrong, or any request of a closed load failed.
 */
export async function measureLoad(
  target: BenchTarget,
  requests: readonly PlannedRequest[],
  options: {
    label: string;
    arrival: Arrival;
    replyKind: ReplyKind;
    times: MeasureTimes;
    requestCountMax?: number;
  },
): Promise<LoadPoint> {
  const { label, arrival, replyKind, times } = options;
  const { hostname, port } = new URL(target.url);
  const before = await target.statistics();
  const result = await applyLoad(
    {
      hostname,
      port: Number(port || 80),
      requests,
      replyKind,
      tolerance: target.expected.tolerance,
      arrival,
      ...times,
      requestCountMax: options.requestCountMax ?? Number.POSITIVE_INFINITY,
      connectionCountMax: CONNECTIONS_MAX,
      timeoutMs: TIMEOUT_MS,
      watchedPids: target.pids,
      threadsOfPid: target.pids.server?.[0],
    },
    progressOf(label),
  );
  refuseTrouble(label, result);
  const after = await target.statistics();
  const { server } = target.pids;
  return {
    label,
    arrival,
    result,
    residentBytes: server === undefined ? null : usageOf(server).residentBytes,
    batches: before && after ? batchesBetween(before.batches, after.batches) : null,
  };
}

/**
 * A wrong reply is a fault of the server. So is a failed one: no load here is meant to be refused.
 */
function refuseTrouble(label: string, { wrong, failed, requestCount }: LoadResult): void {
  if (wrong.count > 0) {
    throw new WrongReplyError(
      `${label}: ${wrong.count} wrong replies: ${wrong.samples.join('; ')}`,
    );
  }
  if (failed.count > 0) {
    throw new WrongReplyError(`${label}: ${failed.count} failed: ${failed.samples.join('; ')}`);
  }
  if (requestCount === 0) throw new WrongReplyError(`${label}: no reply came at all`);
}

function batchesBetween(
  before: ReadonlyMap<number, number>,
  after: ReadonlyMap<number, number>,
): readonly (readonly [number, number])[] {
  return [...after]
    .map(([size, count]) => [size, count - (before.get(size) ?? 0)] as const)
    .filter(([, count]) => count > 0)
    .sort(([a], [b]) => a - b);
}
