import {
  type BenchReport,
  cpuUsPerRequest,
  type LoadPoint,
  meanBatch,
  requestsPerSecond,
  textsPerSecond,
  threadLine,
} from './bench-report.ts';

/** Columns under headings, numbers to the right, for a terminal. */
export function textTable(
  headings: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const widths = headings.map((heading, column) =>
    Math.max(heading.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[column]) : cell.padStart(widths[column]),
      )
      .join('  ')
      .trimEnd();
  return [line(headings), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join(
    '\n',
  );
}

/** Three digits that count: 0.123, 1.23, 12.3, 1234. */
export function short(value: number | null): string {
  if (value === null || Number.isNaN(value)) return '-';
  if (value === 0) return '0';
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(digits, 3));
}

export const LOAD_HEADINGS = [
  'load',
  'requests/s',
  'texts/s',
  'p50 ms',
  'p90 ms',
  'p99 ms',
  'p99.9 ms',
  'lag p99',
  'batch',
  'server µs',
  'model µs',
  'load µs',
] as const;

/** One load as cells under `LOAD_HEADINGS`. Processor times are for each request. */
export function loadCells(point: LoadPoint): readonly string[] {
  const { all } = point.result.latencies;
  return [
    point.label,
    short(requestsPerSecond(point)),
    short(textsPerSecond(point)),
    ...[all.p50, all.p90, all.p99, all.p999].map(short),
    short(point.result.sendLag?.p99 ?? null),
    short(meanBatch(point)),
    ...['server', 'triton', 'load'].map((name) => short(cpuUsPerRequest(point, name))),
  ];
}

/** Where it was measured and what, in two lines. */
export function headLines({ machine, commit, startedAt, settings }: BenchReport): string {
  const dirty = commit.isDirty ? ' with changes' : '';
  const chosen = Object.entries(settings).map(([name, value]) => `${name} ${value}`);
  return [
    `${machine.processor}, ${machine.coreCount} cores, ${(machine.memoryBytes / 2 ** 30).toFixed(0)} GiB, ` +
      `${machine.system}, Bun ${machine.bun}, load before ${machine.loadBefore.toFixed(2)}`,
    `commit ${commit.id}${dirty}, ${startedAt}, ${chosen.join(', ')}`,
  ].join('\n');
}

/** The whole report for a terminal. */
export function reportTables(report: BenchReport): string {
  const parts = [headLines(report)];
  if (report.micro.length > 0) {
    const rows = report.micro.map(({ group, name, per, p50Us, p99Us }) => [
      `${group}: ${name}`,
      short(p50Us),
      short(p99Us),
      per,
    ]);
    parts.push(textTable(['micro-benchmark', 'p50 µs', 'p99 µs', 'for one'], rows));
  }
  for (const { name, about, loads, profileDir } of report.scenarios) {
    const profile = profileDir === null ? '' : `\nprofiles: ${profileDir}`;
    const table = textTable(LOAD_HEADINGS, loads.map(loadCells));
    parts.push(`${name}: ${about}${profile}\n${table}\n${threadLine(loads)}`.trimEnd());
  }
  return parts.join('\n\n');
}
