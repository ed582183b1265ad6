import type { Reply } from './http-connection.ts';
import { TimesByKind } from './latencies.ts';
import type { LoadPlan, LoadResult } from './load-plan.ts';
import { faultOfRows, rowsOfReply } from './rows-of-reply.ts';

/** Troubles kept in words. */
const SAMPLES_MAX = 5;

const STAGE = /([a-z_]+);dur=([\d.]+)/g;

/** When a request was due, written and answered, in ms of one clock. */
export interface RequestTimes {
  readonly dueMs: number;
  readonly sentMs: number;
  readonly endMs: number;
}

/** Judges replies and counts them. */
export class LoadTally {
  readonly #plan: LoadPlan;
  readonly #latencies = new TimesByKind();
  readonly #stages = new TimesByKind();
  readonly #lags = new TimesByKind();
  readonly #wrong = { count: 0, samples: [] as string[] };
  readonly #failed = { count: 0, samples: [] as string[] };
  readonly #counts = { requestCount: 0, textCount: 0, tokenCount: 0 };

  constructor(plan: LoadPlan) {
    this.#plan = plan;
  }

  get requestCount(): number {
    return this.#counts.requestCount;
  }

  /** Every reply is judged, inside the measured window and outside. */
  judge({ request, status, otherBody }: Reply): void {
    if (status !== 200) this.fail(`${request.kind}: status ${status}`, otherBody);
    else if (otherBody !== undefined) this.#compareRows(request.replyBody, otherBody, request.kind);
  }

  /** Counts a good reply of the measured window. */
  count({ request, head }: Reply, times: RequestTimes): void {
    this.#counts.requestCount++;
    this.#counts.textCount += request.textCount;
    this.#counts.tokenCount += request.tokenCount;
    const latencyMs = times.endMs - times.dueMs;
    this.#latencies.add('all', latencyMs);
    this.#latencies.add(request.kind, latencyMs);
    if (this.#plan.arrival.kind !== 'closed') this.#lags.add('all', times.sentMs - times.dueMs);
    this.#countStages(head);
  }

  fail(what: string, body?: Uint8Array): void {
    this.#failed.count++;
    if (this.#failed.samples.length >= SAMPLES_MAX) return;
    const said = body === undefined ? '' : ` ${new TextDecoder().decode(body.subarray(0, 300))}`;
    this.#failed.samples.push(what + said);
  }

  result(window: Pick<LoadResult, 'measuredMs' | 'cpuMs' | 'threadCpuMs'>): LoadResult {
    return {
      ...window,
      ...this.#counts,
      latencies: this.#latencies.summary(),
      stages: this.#stages.summary(),
      sendLag: this.#lags.summary().all ?? null,
      wrong: this.#wrong,
      failed: this.#failed,
    };
  }

  #countStages(head: string): void {
    const at = head.search(/\r\nserver-timing:/i);
    if (at < 0) return;
    const end = head.indexOf('\r\n', at + 2);
    const field = head.slice(at, end < 0 ? undefined : end);
    for (const [, stage, ms] of field.matchAll(STAGE)) this.#stages.add(stage, Number(ms));
  }

  /** Other bytes may still be the right rows, where a tolerance is allowed. */
  #compareRows(right: Uint8Array, body: Uint8Array, kind: string): void {
    const { replyKind, tolerance } = this.#plan;
    let fault: string | undefined;
    try {
      const expected = rowsOfReply(right, replyKind);
      fault = faultOfRows(rowsOfReply(body, replyKind), expected, tolerance);
    } catch (error) {
      fault = (error as Error).message;
    }
    if (fault === undefined) return;
    this.#wrong.count++;
    if (this.#wrong.samples.length < SAMPLES_MAX) this.#wrong.samples.push(`${kind}: ${fault}`);
  }
}
