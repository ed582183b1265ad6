/**
 * QUEUE_HOLD_MS against REQUEST_TIMEOUT_MS, on a virtual clock: what clients that send a corpus at
 * once get from the embedded default, and what another caller's query each 100 ms waits meanwhile.
 *
 * usage: bun scripts/sim/hold-sim.ts [--texts 40000] [--tokens 30] [--slow 1]
 *
 * `--slow` makes the machine slower by so many times.
 */
import { parseArgs } from 'node:util';
import { HABITS, runHold } from '../../src/testing/simulation/hold-load.ts';
import { textTable } from '../bench/report/text-table.ts';

const { values } = parseArgs({
  options: {
    texts: { type: 'string', default: '40000' },
    tokens: { type: 'string', default: '30' },
    slow: { type: 'string', default: '1' },
  },
});
const [textCount, tokens, slow] = [values.texts, values.tokens, values.slow].map(Number);

const rows: string[][] = [];
for (const habit of HABITS) {
  for (const timeoutMs of [30_000, 60_000]) {
    for (const holdMs of [0, 10_000, 30_000, 60_000, 120_000]) {
      const load = { habit, textCount, tokens, slow, holdMs, requestTimeoutMs: timeoutMs };
      const { doneCount, refusedCount, lateCount, lostCount, ...run } = await runHold(load);
      rows.push([
        ...[habit.name, String(timeoutMs / 1000), String(holdMs / 1000)],
        ...[doneCount, refusedCount, lateCount, lostCount].map(String),
        ...[run.seconds.toFixed(0), run.queryP99.toFixed(0)],
      ]);
    }
  }
}
const headings = [
  'client',
  'timeout s',
  'hold s',
  'answered',
  '429',
  '504',
  'lost',
  's',
  'query p99',
];
console.log(textTable(headings, rows));
