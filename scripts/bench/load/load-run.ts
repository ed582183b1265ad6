import { seededRandom } from '../../../src/testing/seeded-random.ts';
import { threadCpuMs, usageOf } from '../target/process-usage.ts';
import { dueTimesOf } from './arrivals.ts';
import { HttpConnection, type Reply } from './http-connection.ts';
import type { LoadPlan, LoadResult, PlannedRequest } from './load-plan.ts';
import { LoadTally } from './load-tally.ts';

/**
 * Finest step of the runtime's timers. An open load also looks for due requests after every reply.
 */
const TICK_MS = 1;

/** A closed load runs on its replies alone; it only has to see when its time is over. */
const CLOSED_TICK_MS = 50;

/** Connections that an open load has ready before it starts. */
const WARM_CONNECTIONS = 32;

/**
 * Runs one load to its end.
 *
 * @param plan borrowed.
 * @param onProgress called about once a second.
 * @throws Error when the server cannot be reached at all.
 */
export async function runLoad(
  plan: LoadPlan,
  onProgress: (progress: { elapsedMs: number; replyCount: number }) => void,
): Promise<LoadResult> {
  const run = new LoadRun(plan);
  const reporter = setInterval(() => onProgress(run.progress()), 1000);
  try {
    return await run.toEnd();
  } finally {
    clearInterval(reporter);
  }
}

class LoadRun {
  readonly #plan: LoadPlan;
  readonly #isClosed: boolean;
  readonly #next: () => PlannedRequest;
  readonly #tally: LoadTally;
  readonly #connections = new Set<HttpConnection>();
  readonly #idle: HttpConnection[] = [];
  /** Requests of an open load that found no connection, oldest first. */
  readonly #waiting: { readonly request: PlannedRequest; readonly dueMs: number }[] = [];
  #openingCount = 0;
  #startMs = 0;
  #fromMs = 0;
  #toMs = 0;
  /** Nothing new is sent. */
  #isOver = false;
  #dueTimes: Iterator<number, never> | undefined;
  #nextDueMs = Number.POSITIVE_INFINITY;

  constructor(plan: LoadPlan) {
    this.#plan = plan;
    this.#isClosed = plan.arrival.kind === 'closed';
    this.#tally = new LoadTally(plan);
    const random = seededRandom(plan.seed);
    this.#next = () => random.pick(plan.requests);
  }

  progress(): { elapsedMs: number; replyCount: number } {
    return { elapsedMs: performance.now() - this.#startMs, replyCount: this.#tally.requestCount };
  }

  async toEnd(): Promise<LoadResult> {
    const { arrival, warmUpMs, measureMs, timeoutMs, connectionCountMax } = this.#plan;
    const warm = Math.min(WARM_CONNECTIONS, connectionCountMax);
    const length = arrival.kind === 'closed' ? arrival.connectionCount : warm;
    await Promise.all(Array.from({ length }, () => this.#connect()));
    this.#startMs = performance.now();
    this.#fromMs = this.#startMs + warmUpMs;
    this.#toMs = this.#fromMs + measureMs;
    if (arrival.kind === 'closed') {
      for (const connection of this.#idle.splice(0)) this.#sendNext(connection);
    } else {
      this.#dueTimes = dueTimesOf(arrival, this.#plan.seed);
      this.#advance();
    }
    await this.#workUntil(() => performance.now() >= this.#fromMs);
    const cpuBefore = this.#cpuMs();
    const threadsBefore = this.#threadCpuMs();
    await this.#workUntil(() => this.#isOver || performance.now() >= this.#toMs);
    const cpuMs = growth(cpuBefore, this.#cpuMs());
    const threadMs = growth(threadsBefore, this.#threadCpuMs());
    this.#isOver = true;
    const giveUpMs = this.#toMs + timeoutMs;
    await this.#workUntil(() => this.#openCount() === 0 || performance.now() > giveUpMs);
    if (this.#openCount() > 0) this.#giveUp();
    for (const connection of [...this.#connections]) connection.close();
    const measuredMs = this.#toMs - this.#fromMs;
    return this.#tally.result({ measuredMs, cpuMs, threadCpuMs: threadMs });
  }

  /** Replies come in by themselves; what is due of an open load is looked for every tick. */
  async #workUntil(isDone: () => boolean): Promise<void> {
    const tickMs = this.#isClosed ? CLOSED_TICK_MS : TICK_MS;
    while (!isDone()) {
      await new Promise((resolve) => setTimeout(resolve, tickMs));
      this.#pump(performance.now());
    }
  }

  #cpuMs(): Record<string, number> {
    const { user, system } = process.cpuUsage();
    const cpuMs: Record<string, number> = { load: (user + system) / 1000 };
    for (const [name, pids] of Object.entries(this.#plan.watchedPids)) {
      cpuMs[name] = usageOf(pids).cpuMs;
    }
    return cpuMs;
  }

  #threadCpuMs(): Readonly<Record<string, number>> {
    const { threadsOfPid } = this.#plan;
    return threadsOfPid === undefined ? {} : threadCpuMs(threadsOfPid);
  }

  async #connect(): Promise<void> {
    this.#openingCount++;
    try {
      const connection = await HttpConnection.open(this.#plan, {
        onReply: (from, reply) => this.#onReply(from, reply),
        onBroken: (broken, why) => this.#onBroken(broken, why),
      });
      this.#connections.add(connection);
      this.#idle.push(connection);
    } finally {
      this.#openingCount--;
    }
  }

  /** Requests without a reply. */
  #openCount(): number {
    return this.#connections.size - this.#idle.length + this.#waiting.length + this.#openingCount;
  }

  /** Sends what is due of an open load. */
  #pump(nowMs: number): void {
    while (!this.#isOver && this.#nextDueMs <= nowMs && this.#nextDueMs < this.#toMs) {
      this.#waiting.push({ request: this.#next(), dueMs: this.#nextDueMs });
      this.#advance();
    }
    while (this.#waiting.length > 0 && this.#idle.length > 0) {
      const connection = this.#idle.pop();
      const due = this.#waiting.shift();
      if (connection === undefined || due === undefined) break;
      this.#send(connection, due.request, due.dueMs);
    }
    const room = this.#plan.connectionCountMax - this.#connections.size - this.#openingCount;
    const wanted = Math.min(this.#waiting.length - this.#openingCount, room);
    for (let opened = 0; opened < wanted; opened++) {
      this.#connect().catch((error: Error) => this.#tally.fail(`no connection: ${error.message}`));
    }
  }

  #advance(): void {
    const offsetMs = this.#dueTimes?.next().value ?? Number.POSITIVE_INFINITY;
    this.#nextDueMs = this.#startMs + offsetMs;
  }

  #sendNext(connection: HttpConnection): void {
    this.#send(connection, this.#next(), performance.now());
  }

  #send(connection: HttpConnection, request: PlannedRequest, dueMs: number): void {
    connection.dueMs = dueMs;
    connection.sentMs = performance.now();
    connection.send(request);
  }

  #onReply(connection: HttpConnection, reply: Reply): void {
    const endMs = performance.now();
    const { dueMs, sentMs } = connection;
    this.#tally.judge(reply);
    // An open load is judged by what was due in the window, however late it came; a closed one by
    // what came back in it.
    const atMs = this.#isClosed ? endMs : dueMs;
    const { requestCountMax } = this.#plan;
    // On a machine that stalls, more may be under way than are still to be counted.
    const isWanted = reply.status === 200 && this.#tally.requestCount < requestCountMax;
    if (isWanted && atMs >= this.#fromMs && atMs < this.#toMs) {
      this.#tally.count(reply, { dueMs, sentMs, endMs });
      if (this.#tally.requestCount === requestCountMax) {
        this.#toMs = endMs;
        this.#isOver = true;
      }
    }
    if (this.#isClosed && !this.#isOver) {
      this.#sendNext(connection);
      return;
    }
    this.#idle.push(connection);
    this.#pump(endMs);
  }

  #onBroken(connection: HttpConnection, why: string): void {
    this.#connections.delete(connection);
    const at = this.#idle.indexOf(connection);
    if (at >= 0) this.#idle.splice(at, 1);
    if (connection.isBusy) this.#tally.fail(why);
    if (this.#isOver || !this.#isClosed) return;
    // A closed load keeps its number of connections; where nobody listens any more, each is given
    // up once.
    this.#connect().then(
      () => {
        const fresh = this.#idle.pop();
        if (fresh !== undefined) this.#sendNext(fresh);
      },
      (error: Error) => this.#tally.fail(`no connection: ${error.message}`),
    );
  }

  /** What has no reply by now gets none. */
  #giveUp(): void {
    for (const connection of [...this.#connections]) {
      if (connection.isBusy) this.#onBroken(connection, 'no reply before the deadline');
      connection.close();
    }
    for (const { request } of this.#waiting.splice(0)) {
      this.#tally.fail(`${request.kind}: no connection was free before the deadline`);
    }
  }
}

function growth(
  before: Readonly<Record<string, number>>,
  after: Readonly<Record<string, number>>,
): Record<string, number> {
  const grown: Record<string, number> = {};
  for (const [name, ms] of Object.entries(after)) grown[name] = ms - (before[name] ?? 0);
  return grown;
}
