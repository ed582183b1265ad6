/**
 * Runs admission, batcher, fleet and deadlines through seeded loads with faults, on a virtual
 * clock. Prints each seed that fails, with what was seen, and then exits with 1.
 */
import { simulateService } from '../../src/testing/simulation/service-simulation.ts';
import { count, onOff, readFlags, SEED } from '../flags.ts';

/** Failing seeds are printed up to here, then only counted. */
const PRINTED_MAX = 10;

const values = readFlags(import.meta.path, {
  runs: count(50_000, [1, 1_000_000_000], 'seeds'),
  seed: SEED,
  first: onOff('ends with the first seed that fails'),
});
const runCount = values.runs;
const firstSeed = values.seed;
const sums = { answered: 0, refused: 0, failed: 0 };
let failedRuns = 0;
for (let done = 0; done < runCount; done++) {
  const seed = firstSeed + done;
  const result = await simulateService(seed);
  sums.answered += result.answeredCount;
  sums.refused += result.refusedCount;
  sums.failed += result.failedCount;
  if (result.violations.length > 0 && failedRuns++ < PRINTED_MAX) {
    console.log(`seed ${seed}: ${result.violations.slice(0, 3).join('; ')}`);
    console.log(`  replay: bun scripts/sim/service-sim.ts --runs 1 --seed ${seed}`);
  }
  if (failedRuns > 0 && values.first) break;
  if (done % 5000 === 4999) console.log(`${done + 1} runs, ${failedRuns} failed`);
}
const { answered, refused, failed } = sums;
console.log(
  `${runCount} runs from seed ${firstSeed}: ${failedRuns} failed; requests: ${answered} answered, ` +
    `${refused} refused with 429, ${failed} failed as they may`,
);
if (failedRuns > 0) process.exit(1);
