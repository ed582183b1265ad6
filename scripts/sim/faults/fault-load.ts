import { legalTexts } from '../../../src/testing/legal-texts.ts';
import { seededRandom } from '../../../src/testing/seeded-random.ts';

/** Clients that send one request after the other. */
const CLIENT_COUNT = 8;

/** Different texts in the load: enough that copied or shifted rows cannot be right by chance. */
const TEXT_COUNT = 48;

/** Wait of a client between two requests, and at most after a refusal, in ms. */
const PAUSE_MS = 5;
const BACK_OFF_MS_MAX = 200;

/** What a load has seen so far. */
export interface LoadReport {
  requestCount: number;
  rightCount: number;
  wrongCount: number;
  /** Told to come back, with Retry-After, before any work. */
  refusedCount: number;
  /** Taken on, and then not answered with vectors. */
  lostCount: number;
  /** Status and code of everything that was no answer. */
  readonly seen: Map<string, number>;
  lastFailureMs: number;
  lastSuccessMs: number;
  /** Longest time in which nobody got an answer, in ms. */
  longestGapMs: number;
  successesInARow: number;
}

/** A load on one server. */
export interface FaultLoad {
  readonly report: LoadReport;
  stop(): Promise<void>;
}

/** A refusal comes at once; a 503 after that was a request that waited for the backend in vain. */
const AT_ONCE_MS = 100;

/** Asks for each text alone, on a server that is well: what all later answers are held against. */
export async function learnRows(url: string): Promise<ReadonlyMap<string, string>> {
  const rows = new Map<string, string>();
  const wordCounts = Array.from({ length: TEXT_COUNT }, (_, index) => 3 + ((index * 7) % 40));
  for (const text of legalTexts(wordCounts, 8)) {
    const reply = await post(url, [text]);
    const body = (await reply.json()) as { embeddings: number[][] };
    rows.set(text, JSON.stringify(body.embeddings[0]));
  }
  return rows;
}

export function startLoad(url: string, rows: ReadonlyMap<string, string>): FaultLoad {
  const texts = [...rows.keys()];
  const startMs = performance.now();
  const report: LoadReport = {
    requestCount: 0,
    rightCount: 0,
    wrongCount: 0,
    refusedCount: 0,
    lostCount: 0,
    seen: new Map(),
    lastFailureMs: 0,
    lastSuccessMs: startMs,
    longestGapMs: 0,
    successesInARow: 0,
  };
  let isStopped = false;

  async function ask(query: readonly string[]): Promise<number> {
    const sentMs = performance.now();
    report.requestCount++;
    try {
      const reply = await post(url, query);
      const body = await reply.json();
      if (reply.status === 200) {
        judge(query, body as { embeddings: number[][] });
        return PAUSE_MS;
      }
      const { code } = (body as { error: { code: string } }).error;
      const retryMs = Number(reply.headers.get('retry-after-ms') ?? Number.NaN);
      const isRefusal = !Number.isNaN(retryMs) && performance.now() - sentMs < AT_ONCE_MS;
      failed(`${reply.status} ${code}`, isRefusal);
      return Math.min(BACK_OFF_MS_MAX, retryMs || PAUSE_MS);
    } catch {
      failed('no reply', false);
      return BACK_OFF_MS_MAX;
    }
  }

  function judge(query: readonly string[], body: { embeddings: number[][] }): void {
    const isRight = query.every(
      (text, at) => rows.get(text) === JSON.stringify(body.embeddings[at]),
    );
    if (isRight) report.rightCount++;
    else report.wrongCount++;
    const nowMs = performance.now();
    report.longestGapMs = Math.max(report.longestGapMs, nowMs - report.lastSuccessMs);
    report.lastSuccessMs = nowMs;
    report.successesInARow++;
  }

  function failed(what: string, isRefusal: boolean): void {
    if (isRefusal) report.refusedCount++;
    else report.lostCount++;
    report.seen.set(what, (report.seen.get(what) ?? 0) + 1);
    report.lastFailureMs = performance.now();
    report.successesInARow = 0;
  }

  async function runClient(index: number): Promise<void> {
    const random = seededRandom((index + 1) * 7919);
    while (!isStopped) {
      const query = Array.from({ length: random.pick([1, 1, 4]) }, () => random.pick(texts));
      await Bun.sleep(await ask(query));
    }
  }

  const clients = Array.from({ length: CLIENT_COUNT }, (_, index) => runClient(index));
  return {
    report,
    async stop() {
      isStopped = true;
      await Promise.all(clients);
    },
  };
}

function post(url: string, query: readonly string[]): Promise<Response> {
  return fetch(`${url}/encode`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/json' },
    body: JSON.stringify({ query }),
  });
}
