import { describe, expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PLANTED_FAULTS } from './planted-faults.ts';
import { simulateService } from './service-simulation.ts';

/**
 * A sample of what `bun run sim` runs many of. The faults that the simulation has to see are listed
 * in `planted-faults.ts` and planted by `bun scripts/sim/planted-faults-sim.ts`.
 */

const RUNS_PER_TEST = 25;

describe('the service on simulated servers', () => {
  for (let first = 1; first <= 500; first += RUNS_PER_TEST) {
    test(`seeds ${first} to ${first + RUNS_PER_TEST - 1}`, async () => {
      for (let seed = first; seed < first + RUNS_PER_TEST; seed++) {
        const { violations } = await simulateService(seed);
        expect({ seed, violations }).toEqual({ seed, violations: [] });
      }
    });
  }

  test('one seed is one run', async () => {
    for (const seed of [3, 4, 5]) {
      expect(await simulateService(seed)).toEqual(await simulateService(seed));
    }
  });

  test('each planted fault still has its place in the sources', () => {
    const sources = join(import.meta.dir, '../..');
    const lost = PLANTED_FAULTS.filter(
      ({ file, from }) => !readFileSync(join(sources, file), 'utf8').includes(from),
    );
    expect(lost.map(({ name }) => name)).toEqual([]);
    expect(PLANTED_FAULTS.length).toBeGreaterThanOrEqual(15);
  });
});
