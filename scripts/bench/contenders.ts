import { loadReferenceIds } from '../../src/testing/reference-ids.ts';
import { trivialEmbedding } from '../../src/testing/triton/deterministic-embedding.ts';
import { medianOf } from './load/latencies.ts';
import type { PlannedRequest } from './load/load-plan.ts';
import { type ExpectedRows, planRequests } from './load/plan-requests.ts';
import type { ReplyKind } from './load/rows-of-reply.ts';
import { type MeasureTimes, measureLoad } from './measure.ts';
import { type LoadPoint, requestsPerSecond } from './report/bench-report.ts';
import { short } from './report/text-table.ts';
import { say } from './run-script.ts';
import { textGroupsOf } from './scenario.ts';
import type { BenchTarget } from './target/bench-target.ts';
import { type BenchTriton, TRITON_DIMENSION } from './target/bench-triton.ts';
import { processTree } from './target/process-usage.ts';

/** Different requests of a load of single texts; requests of several texts are fewer. */
const REQUESTS_MAX = 256;

/** Texts of all requests together: enough that no request is like the one before. */
const TEXTS_WANTED = 1024;
/** More than are under way at once: equal ones would be computed once. */
const REQUESTS_MIN = 16;

const EXPECTED: ExpectedRows = {
  rowOf: (ids) => trivialEmbedding(ids, TRITON_DIMENSION),
  tolerance: 0,
};

/** A service over a trivial Triton, and checked requests for it. */
export interface Contender {
  readonly name: string;
  readonly replyKind: ReplyKind;
  readonly target: BenchTarget;
  readonly requests: readonly PlannedRequest[];
}

/**
 * Plans requests of short texts for a service, and checks its replies to each of them.
 *
 * @param load.tokenCountMax no text of the load is longer.
 * @throws Error when a reply is wrong.
 */
export async function createContender(
  name: string,
  replyKind: ReplyKind,
  load: {
    service: { url: string; pid: number };
    triton: BenchTriton;
    seed: number;
    tokenCountMax: number;
    textsPerRequest: number;
  },
): Promise<Contender> {
  const { service, triton, seed, tokenCountMax, textsPerRequest } = load;
  const target: BenchTarget = {
    kind: 'trivial',
    url: service.url,
    modelId: 'bge-m3',
    prefix: '',
    tokenCountMax,
    expected: EXPECTED,
    pids: { server: processTree(service.pid), triton: processTree(triton.pid) },
    statistics: triton.statistics,
    log: () => '',
    stop: async () => undefined,
  };
  const requestCount = Math.min(
    REQUESTS_MAX,
    Math.max(REQUESTS_MIN, Math.ceil(TEXTS_WANTED / textsPerRequest)),
  );
  const groups = textGroupsOf([{ length: 'short', textsPerRequest, requestCount }], seed);
  const requests = await planRequests(
    groups,
    { ...target, replyKind },
    { idsOf: loadReferenceIds('bge-m3'), expected: EXPECTED },
  );
  return { name, replyKind, target, requests };
}

/** What each contender did in each of its turns, by `turnName`. */
export type Turns = ReadonlyMap<string, readonly LoadPoint[]>;

/** A contender under one load. */
export function turnName(name: string, connectionCount: number): string {
  return `${name} @ ${connectionCount}`;
}

/**
 * Each round lets every service run under every load, one after the other: what disturbs one
 * disturbs all.
 */
export async function takeTurns(
  contenders: readonly Contender[],
  options: { rounds: number; times: MeasureTimes; connectionCounts: readonly number[] },
): Promise<Turns> {
  const { rounds, times, connectionCounts } = options;
  const turns = new Map<string, LoadPoint[]>();
  for (let round = 1; round <= rounds; round++) {
    for (const connectionCount of connectionCounts) {
      for (const { name, replyKind, target, requests } of contenders) {
        const label = turnName(name, connectionCount);
        const arrival = { kind: 'closed', connectionCount } as const;
        const point = await measureLoad(target, requests, { label, arrival, replyKind, times });
        say(`round ${round}: ${label}: ${short(requestsPerSecond(point))} requests/s`);
        turns.set(label, [...(turns.get(label) ?? []), point]);
      }
    }
  }
  return turns;
}

/** The median of a figure over a contender's turns; 0 for one that had none. */
export function medianOfTurns(
  turns: Turns,
  name: string,
  of: (point: LoadPoint) => number,
): number {
  return medianOf((turns.get(name) ?? []).map(of));
}
