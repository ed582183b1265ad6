/**
 * A million random queues and limits: no plan leaves its limits or the profiles of an engine.
 *
 * usage: bun scripts/sim/planner-sim.ts [--runs N] [--seed N]
 *
 * A run is a thousand plans (1000 runs). The exit status is 0 only when all of them kept the rules.
 */
import { parseArgs } from 'node:util';
import { checkPlans } from '../../src/testing/simulation/plan-check.ts';

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '1' },
  },
});
const runs = Number(values.runs);
const first = Number(values.seed);
for (let seed = first; seed < first + runs; seed++) checkPlans({ seed, planCount: 1_000 });
console.log(
  `${runs * 1_000} plans kept their limits and profiles, seeds ${first} to ${first + runs - 1}`,
);
