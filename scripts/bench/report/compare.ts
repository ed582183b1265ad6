import { type BenchReport, type LoadPoint, requestsPerSecond } from './bench-report.ts';
import { short, textTable } from './text-table.ts';

/**
 * What changed since an earlier run, for everything that both have.
 *
 * @returns a table, and what stands in the way of trusting it.
 */
export function compareReports(options: { earlier: BenchReport; now: BenchReport }): string {
  const { earlier, now } = options;
  const rows = [...microRows(earlier, now), ...loadRows(earlier, now)];
  const headings = ['', 'before', 'now', 'change'];
  const doubts = doubtsOf(earlier, now).map((doubt) => `note: ${doubt}`);
  const from = `Against ${earlier.commit.id}${earlier.commit.isDirty ? ' with changes' : ''} of ${earlier.startedAt}`;
  if (rows.length === 0) return `${from}: the two runs have nothing in common.`;
  return [from, ...doubts, textTable(headings, rows)].join('\n');
}

/**
 * Reads the JSON file of an earlier run.
 *
 * @throws Error when it is none, or of another version.
 */
export async function readReport(path: string): Promise<BenchReport> {
  const report = (await Bun.file(path).json()) as Partial<BenchReport>;
  if (report.version !== 1) throw new Error(`${path} is no report of this version of the bench.`);
  return report as BenchReport;
}

function microRows(earlier: BenchReport, now: BenchReport): string[][] {
  return now.micro.flatMap((result) => {
    const { group, name, p50Us } = result;
    const before = earlier.micro.find((other) => other.group === group && other.name === name);
    if (before === undefined) return [];
    return [row(`${group}: ${name}, p50 µs`, before.p50Us, p50Us)];
  });
}

function loadRows(earlier: BenchReport, now: BenchReport): string[][] {
  return now.scenarios.flatMap((scenario) => {
    const before = earlier.scenarios.find(({ name }) => name === scenario.name);
    return scenario.loads.flatMap((load) => {
      const same = before?.loads.find(({ label }) => label === load.label);
      return same === undefined ? [] : pointRows(`${scenario.name}, ${load.label}`, same, load);
    });
  });
}

/** A closed load is judged by its rate, an open one by its latency, since its rate is given. */
function pointRows(name: string, before: LoadPoint, now: LoadPoint): string[][] {
  const latency = (percentile: 'p50' | 'p99'): string[] =>
    row(
      `${name}, ${percentile} ms`,
      before.result.latencies.all[percentile],
      now.result.latencies.all[percentile],
    );
  const rate = row(`${name}, requests/s`, requestsPerSecond(before), requestsPerSecond(now));
  return now.arrival.kind === 'closed' ? [rate, latency('p50')] : [latency('p50'), latency('p99')];
}

function row(name: string, before: number, now: number): string[] {
  const change = ((now - before) / before) * 100;
  const sign = change >= 0 ? '+' : '';
  return [name, short(before), short(now), `${sign}${change.toFixed(1)} %`];
}

function doubtsOf(earlier: BenchReport, now: BenchReport): string[] {
  const doubts: string[] = [];
  const { processor, coreCount } = now.machine;
  if (processor !== earlier.machine.processor || coreCount !== earlier.machine.coreCount) {
    doubts.push(
      `another machine: ${earlier.machine.processor}, ${earlier.machine.coreCount} cores`,
    );
  }
  for (const [name, value] of Object.entries(now.settings)) {
    const before = earlier.settings[name];
    if (before !== value) doubts.push(`setting ${name} was ${before}, is ${value}`);
  }
  return doubts;
}
