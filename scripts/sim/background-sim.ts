/**
 * Background texts beside queries on random GPUs, settings and loads, on a virtual clock: no query
 * waits for more than one background batch, none starves, the GPU is never idle. Then what a job
 * and queries of several rates cost each other on a middling GPU.
 */
import { BACKGROUND } from '../../src/testing/batcher-harness.ts';
import { checkBackground } from '../../src/testing/simulation/background-check.ts';
import { compareWithJob, LOADS } from '../../src/testing/simulation/background-load.ts';
import { textTable } from '../bench/report/text-table.ts';
import { count, onOff, readFlags, SEED } from '../flags.ts';

const values = readFlags(import.meta.path, {
  runs: count(200, [1, 1_000_000], 'seeds'),
  seed: SEED,
  first: onOff('ends with the first seed that fails, and prints no table'),
});
const firstSeed = values.seed;
const runCount = values.runs;
let failedRuns = 0;
for (let seed = firstSeed; seed < firstSeed + runCount; seed++) {
  try {
    await checkBackground(seed);
  } catch (error) {
    failedRuns++;
    console.log((error as Error).message);
    if (values.first) break;
  }
}
console.log(`${runCount} runs from seed ${firstSeed}: ${failedRuns} failed`);
if (!values.first) {
  const rows: string[][] = [];
  for (const { name, perMs, lengthOf } of LOADS) {
    for (const delayMs of [20, 40, 80]) {
      const limits = { ...BACKGROUND, delayMs };
      const found = await compareWithJob({ seed: 1, queries: { perMs, lengthOf }, limits });
      rows.push([
        ...[name, String(delayMs), `${(100 * found.leftPart).toFixed(0)} %`],
        ...[found.p99, found.p99Beside].map((ms) => ms.toFixed(1)),
        (found.p99Beside / found.p99).toFixed(2),
        `${(100 * found.jobPart).toFixed(0)} %`,
      ]);
    }
  }
  const headings = ['queries', 'delay ms', 'left', 'p99 ms', 'beside', 'ratio', 'job gets'];
  console.log(textTable(headings, rows));
}
if (failedRuns > 0) process.exit(1);
