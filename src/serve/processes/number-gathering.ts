import { AggregatorRegistry } from 'prom-client';
import type { Clock } from '../../base/clock.ts';
import type { MetricNumbers } from '../../observe/metric-book.ts';

/** A process that can be asked for its numbers. */
export interface Counting {
  /** Asks it to answer `told` with this id. */
  askNumbers(id: number): void;
}

/** The numbers of all processes, and of those that were. */
export interface NumberGathering {
  /** Asks every process and sums. Scrapes that come during one share the next. */
  scrape(): Promise<string>;
  /** A process has answered. */
  told(from: Counting, id: number, numbers: ProcessNumbers): void;
  /** A process has ended; what it had counted, as far as it was told, still counts. */
  left(from: Counting): void;
}

/**
 * How long a scrape waits for a process, in ms. One that is well answers within a few; Prometheus
 * itself gives up after ten seconds unless told.
 */
const ANSWER_MS_MAX = 2000;

/** One turn of asking. */
interface Turn {
  readonly id: number;
  readonly waiting: Set<Counting>;
  readonly answered: Set<Counting>;
  readonly finish: () => void;
}

/**
 * Gathers numbers. The gauges of a process that does not answer in time are left out. Its counters
 * keep their last known value: Prometheus reads a counter that falls as a restart.
 *
 * @param options.processes those that run now.
 * @param options.own what is known here, given how many processes have answered.
 */
export function createNumberGathering(options: {
  clock: Clock;
  processes: () => readonly Counting[];
  own: (answeredCount: number) => ProcessNumbers;
}): NumberGathering {
  const { clock, own } = options;
  const last = new Map<Counting, ProcessNumbers>();
  const departed: ProcessNumbers[] = [];
  let turn: Turn | undefined;
  let turnCount = 0;
  let running: Promise<string> | undefined;
  let following: Promise<string> | undefined;

  function begin(): Promise<string> {
    following = undefined;
    const mine = gather().finally(() => {
      if (running === mine) running = undefined;
    });
    running = mine;
    return mine;
  }

  async function gather(): Promise<string> {
    const answered = await askAll();
    const gone = departed.splice(0);
    if (gone.length > 0) departed.push(await sumNumbers(gone));
    const parts = Array.from(last, ([from, numbers]) =>
      answered.has(from) ? numbers : countersOf(numbers),
    );
    const answeredCount = [...last.keys()].filter((from) => answered.has(from)).length;
    return await sumMetrics([...parts, ...departed, own(answeredCount)]);
  }

  function askAll(): Promise<ReadonlySet<Counting>> {
    const { promise, resolve } = Promise.withResolvers<ReadonlySet<Counting>>();
    const waiting = new Set(options.processes());
    const answered = new Set<Counting>();
    const finish = (): void => {
      cancelDeadline();
      turn = undefined;
      resolve(answered);
    };
    const cancelDeadline = clock.schedule(ANSWER_MS_MAX, finish);
    const id = ++turnCount;
    turn = { id, waiting, answered, finish };
    for (const process of [...waiting]) process.askNumbers(id);
    finishWhenDone();
    return promise;
  }

  function finishWhenDone(): void {
    if (turn?.waiting.size === 0) turn.finish();
  }

  return {
    scrape() {
      if (running === undefined) return begin();
      following ??= running.then(begin, begin);
      return following;
    },
    told(from, id, numbers) {
      if (!options.processes().includes(from)) return;
      // What comes late is still the newest that is known of it.
      last.set(from, numbers);
      if (turn?.id !== id || !turn.waiting.delete(from)) return;
      turn.answered.add(from);
      finishWhenDone();
    },
    left(from) {
      const numbers = last.get(from);
      last.delete(from);
      if (numbers !== undefined) departed.push(countersOf(numbers));
      turn?.waiting.delete(from);
      finishWhenDone();
    },
  };
}

/** What one process has counted. */
export type ProcessNumbers = readonly MetricNumbers[];

/**
 * One text for Prometheus from the numbers of several processes: counters and histograms are
 * summed, gauges by what each says of itself.
 */
export async function sumMetrics(parts: readonly ProcessNumbers[]): Promise<string> {
  return await aggregated(parts).metrics();
}

/** The same as data, to be added to others later. */
export async function sumNumbers(parts: readonly ProcessNumbers[]): Promise<ProcessNumbers> {
  return (await aggregated(parts).getMetricsAsJSON()) as unknown as ProcessNumbers;
}

/** What never shrinks: it stays true when the process that counted it is gone. */
export function countersOf(numbers: ProcessNumbers): ProcessNumbers {
  return numbers.filter(({ type }) => type === 'counter' || type === 'histogram');
}

function aggregated(parts: readonly ProcessNumbers[]): ReturnType<typeof asRegistry> {
  return asRegistry(
    parts.map((numbers) =>
      numbers.map((metric) => ({ ...metric, aggregator: aggregatorOf(metric) })),
    ),
  );
}

function asRegistry(parts: ProcessNumbers[]) {
  return AggregatorRegistry.aggregate(parts as unknown as object[]);
}

/** Where the library's own answer for its own metrics is not ours. */
function aggregatorOf({ name, aggregator }: MetricNumbers): string {
  // It leaves the start out; the first of them says since when there is a server.
  if (name === 'process_start_time_seconds') return 'min';
  // One event loop that stands still must not hide among others.
  return aggregator === 'average' ? 'max' : aggregator;
}

/** What only the supervisor knows. */
export function ownNumbers(known: {
  answeredCount: number;
  restartCount: number;
  count: number;
}): readonly MetricNumbers[] {
  const { answeredCount, restartCount, count } = known;
  return [
    metric('gauge', 'processes', 'Server processes that these numbers are of.', answeredCount),
    metric('gauge', 'processes_configured', 'Server processes that there should be.', count),
    metric(
      'counter',
      'process_restarts_total',
      'Server processes that died; each is replaced, until it has died too often in a row.',
      restartCount,
    ),
  ];
}

function metric(type: string, name: string, help: string, value: number): MetricNumbers {
  const values = [{ labels: {}, value }];
  return { name: `bge_encoder_${name}`, help, type, aggregator: 'sum', values };
}
