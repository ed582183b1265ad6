/**
 * QUEUE_HOLD_MS against REQUEST_TIMEOUT_MS, on a virtual clock: what clients that send a corpus at
 * once get from the embedded default, and what another caller's query each 100 ms waits meanwhile.
 */
import { HABITS, runHold } from '../../src/testing/simulation/hold-load.ts';
import { textTable } from '../bench/report/text-table.ts';
import { amount, count, readFlags } from '../flags.ts';

const values = readFlags(import.meta.path, {
  texts: count(40_000, [1, 10_000_000], 'texts of the corpus'),
  tokens: count(30, [3, 8192], 'tokens of each'),
  slow: amount(1, [0.01, 1000], 'so many times slower is the machine'),
});
const { texts: textCount, tokens, slow } = values;

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
