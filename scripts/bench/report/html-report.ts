import {
  type BenchReport,
  type LoadPoint,
  requestsPerSecond,
  type ScenarioResult,
  threadLine,
} from './bench-report.ts';
import { barPlot, COLOURS, escapeXml, linePlot } from './svg-plot.ts';
import { headLines, LOAD_HEADINGS, loadCells, short } from './text-table.ts';

const STYLE = `
  body { font: 14px/1.45 system-ui, sans-serif; max-width: 1000px; margin: 24px auto; padding: 0 16px; color: #222 }
  table { border-collapse: collapse; margin: 8px 0 } td, th { padding: 3px 10px; border-bottom: 1px solid #ddd; text-align: right }
  td:first-child, th:first-child { text-align: left } svg { font: 11px system-ui, sans-serif; margin: 4px } pre { white-space: pre-wrap }
  .bar { display: flex; height: 22px; width: 460px } .bar div { color: #fff; overflow: hidden; padding: 2px 4px; font-size: 11px }`;

/** The report as one file that loads nothing. */
export function htmlReport(report: BenchReport): string {
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Bench ${escapeXml(report.commit.id)}</title><style>${STYLE}</style>
<h1>Bench</h1>
<pre>${escapeXml(headLines(report))}</pre>
<p>Latency counts from the moment a request was due. Every reply was compared with the row it must carry.
Processor times are for each request; <i>lag</i> is how late an open load's requests left the load process, and is part of
their latency.</p>
${microSection(report)}
${report.scenarios.map(scenarioSection).join('\n')}
</html>
`;
}

function microSection({ micro }: BenchReport): string {
  if (micro.length === 0) return '';
  const rows = micro.map(({ group, name, per, p50Us, p99Us }) => [
    `${group}: ${name}`,
    short(p50Us),
    short(p99Us),
    per,
  ]);
  return `<h2>Micro-benchmarks</h2>${table(['', 'p50 µs', 'p99 µs', 'for one'], rows)}`;
}

function scenarioSection({ name, about, loads }: ScenarioResult): string {
  return `<h2>${escapeXml(name)}</h2><p>${escapeXml(about)}</p>
${table(LOAD_HEADINGS, loads.map(loadCells))}
<p>${escapeXml(threadLine(loads))}</p>
${latencyAgainstRate(loads)}${throughputAgainstConnections(loads)}${batchShape(loads)}
${loads.map(stageShares).join('')}`;
}

function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (row: readonly string[], tag: string): string =>
    `<tr>${row.map((cell) => `<${tag}>${escapeXml(cell)}</${tag}>`).join('')}</tr>`;
  return `<table>${cells(headings, 'th')}${rows.map((row) => cells(row, 'td')).join('')}</table>`;
}

function latencyAgainstRate(loads: readonly LoadPoint[]): string {
  const open = loads
    .filter(({ arrival }) => arrival.kind === 'poisson')
    .sort((a, b) => requestsPerSecond(a) - requestsPerSecond(b));
  if (open.length < 2) return '';
  return linePlot({
    title: 'Latency against rate (Poisson)',
    xLabel: 'requests/s',
    yLabel: 'ms',
    series: (['p50', 'p90', 'p99'] as const).map((percentile) => ({
      name: percentile,
      points: open.map((load) => [requestsPerSecond(load), load.result.latencies.all[percentile]]),
    })),
  });
}

function throughputAgainstConnections(loads: readonly LoadPoint[]): string {
  const points = loads.flatMap((load) =>
    load.arrival.kind === 'closed'
      ? [[load.arrival.connectionCount, requestsPerSecond(load)] as const]
      : [],
  );
  if (points.length < 2) return '';
  return linePlot({
    title: 'Throughput against connections',
    xLabel: 'connections',
    yLabel: 'requests/s',
    series: [{ name: 'requests/s', points }],
  });
}

/** Of the closed load with the most connections, where batches are largest. */
function batchShape(loads: readonly LoadPoint[]): string {
  const busiest = loads.findLast(({ arrival }) => arrival.kind === 'closed');
  if (!busiest?.batches || busiest.batches.length === 0) return '';
  return barPlot({
    title: `Batches with ${busiest.label}`,
    xLabel: 'texts in a batch',
    yLabel: 'batches',
    bars: busiest.batches.map(([size, count]) => [String(size), count]),
  });
}

/** Mean time of each stage as a share of them all. */
function stageShares({ label, result }: LoadPoint): string {
  const stages = Object.entries(result.stages);
  const total = stages.reduce((sum, [, { mean }]) => sum + mean, 0);
  if (total === 0) return '';
  const parts = stages.map(([stage, { mean }], index) => {
    const said = `${stage} ${short(mean)} ms`;
    const style = `width:${((100 * mean) / total).toFixed(2)}%;background:${COLOURS[index % COLOURS.length]}`;
    return `<div style="${style}" title="${escapeXml(said)}">${escapeXml(said)}</div>`;
  });
  return `<p>${escapeXml(label)}, mean ${short(total)} ms in the server</p><div class="bar">${parts.join('')}</div>`;
}
