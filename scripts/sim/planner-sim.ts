/**
 * A million random queues and limits: no plan leaves its limits or the profiles of an engine. And
 * how near the batcher's schedule comes to the clairvoyant one at saturation, by kinds of texts.
 *
 * The exit status is 0 only when all of them kept the rules
 * and each median is at least 95 %.
 */
import { checkPlans } from '../../src/testing/simulation/plan-check.ts';
import {
  MIXES,
  type SaturationResult,
  saturate,
} from '../../src/testing/simulation/schedule-load.ts';
import { medianOf } from '../bench/load/latencies.ts';
import { count, readFlags, SEED } from '../flags.ts';

const values = readFlags(import.meta.path, {
  runs: count(1000, [1, 1_000_000], 'runs of a thousand plans'),
  seed: SEED,
});
const runs = values.runs;
const first = values.seed;
for (let seed = first; seed < first + runs; seed++) checkPlans({ seed, planCount: 1_000 });
console.log(
  `${runs * 1_000} plans kept their limits and profiles, seeds ${first} to ${first + runs - 1}`,
);

const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8, 9];
/** What is asked for: useful over padded tokens, and the clairvoyant's time over the batcher's. */
const WANTED = 0.95;
const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

let isGood = true;
console.log(
  'load      in the server  useful over padded  of the clairvoyant  p50, p99 to 512 tokens',
);
for (const [name, mix] of Object.entries(MIXES)) {
  for (const waitingCount of [512, 1024]) {
    const results: SaturationResult[] = [];
    for (const seed of SEEDS) {
      results.push(await saturate({ mix, seed, waitingCount, textCount: 8_000 }));
    }
    const median = (field: 'fill' | 'share' | 'p50' | 'p99'): number =>
      medianOf(results.map((result) => result[field]));
    const [fill, share] = [median('fill'), median('share')];
    const waits = `${median('p50').toFixed(0)}, ${median('p99').toFixed(0)} ms`;
    const cells = [name.padEnd(10), String(waitingCount).padStart(13), percent(fill).padStart(20)];
    console.log(`${cells.join('')}${percent(share).padStart(20)}  ${waits}`);
    isGood &&= Math.min(fill, share) >= WANTED;
  }
}
process.exit(isGood ? 0 : 1);
