/**
 * A caller's burst beside another one's query each 100 ms, on a virtual clock: what the query waits
 * and how fast the burst goes through, by the means that the batcher has. The choice is told in
 * src/docs/decisions.md.
 */
import { SHARING } from '../../src/batcher/caller-queue.ts';
import {
  type Burst,
  type CallersRun,
  MACHINES,
  runCallers,
} from '../../src/testing/simulation/callers-load.ts';
import { textTable } from '../bench/report/text-table.ts';
import { readFlags, SEED } from '../flags.ts';

const values = readFlags(import.meta.path, {
  seed: SEED,
});
const seed = values.seed;

const BURSTS: Readonly<Record<string, Burst>> = {
  '256 short a call': { textCount: 10_240, perCall: 256, tokens: [5, 12] },
  '16 short a call': { textCount: 10_240, perCall: 16, tokens: [5, 12] },
  '64 passages a call': { textCount: 2_560, perCall: 64, tokens: [90, 190] },
};

const UNBOUNDED = { backfillPart: 1e9, launchesMax: 1e9, isJustInTime: false };
const PLANNED = { ...UNBOUNDED, isJustInTime: true };

const WAYS = [
  { way: 'callers not known', isBlind: true },
  { way: 'who asks goes first', sharing: UNBOUNDED },
  { way: 'and full batches just in time', sharing: PLANNED },
  { way: 'and its batch 10 % dearer at most', sharing: { ...PLANNED, backfillPart: 0.1 } },
  { way: 'and its batch 25 % dearer at most', sharing: { ...PLANNED, backfillPart: 0.25 } },
  ...[10, 6, 4, 2].map((launchesMax) => ({
    way: `and the burst's of ${launchesMax} launches${launchesMax === 6 ? ': chosen' : ''}`,
    sharing: { ...SHARING, launchesMax },
  })),
];

const times = (run: CallersRun, quiet: CallersRun): string =>
  `${run.p50.toFixed(0)}, ${run.p99.toFixed(0)} (${(run.p99 / quiet.p99).toFixed(2)} x)`;

for (const [kind, machine] of Object.entries(MACHINES)) {
  const quiet = await runCallers({ machine, seed });
  const rows: string[][] = [];
  // Where texts are computed one by one, batches have no launch to bound.
  const ways = machine.limits.isOneByOne ? WAYS.slice(0, 2) : WAYS;
  for (const { way, ...options } of ways) {
    const cells = [way];
    for (const burst of Object.values(BURSTS)) {
      // A GPU takes eight times as much in ten seconds.
      const textCount = burst.textCount * (kind === 'gpu' ? 8 : 1);
      const run = await runCallers({ machine, seed, burst: { ...burst, textCount }, ...options });
      cells.push(times(run, quiet), (textCount / (run.burstMs / 1000)).toFixed(0));
      if (run.refusedCount > 0) cells[0] += `, ${run.refusedCount} refused`;
    }
    rows.push(cells);
  }
  console.log(`\n${machine.name}: alone p99 ${quiet.p99.toFixed(1)} ms`);
  const headings = Object.keys(BURSTS).flatMap((name) => [name, 'texts/s']);
  console.log(textTable(['query p50, p99 ms beside', ...headings], rows));
}
