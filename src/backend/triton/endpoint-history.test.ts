import { describe, expect, test } from 'bun:test';
import { type SeededRandom, seededRandom } from '../../testing/seeded-random.ts';
import { BatchCost } from './endpoint-history.ts';

/**
 * Faults that were planted by hand, and that this suite caught: absolute errors, in which a page
 * outweighs a hundred queries and a stall all of them; a cost that never forgets; no bounds.
 */

interface Gpu {
  readonly launchMs: number;
  readonly tokenMs: number;
  readonly lengthTokens: number;
}

const SLOW: Gpu = { launchMs: 9, tokenMs: 1 / 30, lengthTokens: 2_000 };
const FAST: Gpu = { launchMs: 1, tokenMs: 1 / 400, lengthTokens: 12_000 };

function teach(cost: BatchCost, gpu: Gpu, random: SeededRandom, lengths: readonly number[]): void {
  for (let count = 0; count < 300; count++) {
    const paddedLength = random.pick(lengths);
    const textCount = random.between(1, Math.min(64, Math.floor(16_384 / paddedLength)));
    const tokens = textCount * paddedLength;
    const ms = gpu.launchMs + tokens * gpu.tokenMs * (1 + paddedLength / gpu.lengthTokens);
    // A tenth of noise, and now and then a stall of a second.
    const noise = 0.95 + random.below(100) / 1_000;
    const stall = random.below(20) === 0 ? 1_000 : 0;
    cost.learn({ textCount, paddedLength, ms: ms * noise + stall });
  }
}

const ALL = [8, 16, 32, 128, 512, 1_024, 4_096, 8_192];

describe('the cost of a batch', () => {
  test.each([
    [SLOW, 'slow'],
    [FAST, 'fast'],
  ] as const)('is learnt, with noise and stalls: %p', (gpu) => {
    const cost = new BatchCost();
    teach(cost, gpu, seededRandom(7), ALL);
    const { launchTokens, lengthTokens } = cost.shape;
    expect(launchTokens / (gpu.launchMs / gpu.tokenMs)).toBeWithin(0.7, 1.4);
    expect(lengthTokens / gpu.lengthTokens).toBeWithin(0.7, 1.4);
  });

  test('of attention that costs nothing is not negative', () => {
    const cost = new BatchCost();
    const gpu = { launchMs: 2, tokenMs: 1 / 200, lengthTokens: 1e9 };
    teach(cost, gpu, seededRandom(11), ALL);
    expect(cost.shape.lengthTokens).toBeGreaterThan(30_000);
    expect(cost.shape.launchTokens).toBeWithin(280, 560);
  });

  test('is learnt anew when the GPU is another', () => {
    const cost = new BatchCost();
    const random = seededRandom(3);
    teach(cost, FAST, random, ALL);
    teach(cost, SLOW, random, ALL);
    teach(cost, SLOW, random, ALL);
    expect(cost.shape.lengthTokens / SLOW.lengthTokens).toBeWithin(0.6, 1.6);
    expect(cost.expectedMs({ textCount: 8, paddedLength: 512 })).toBeWithin(150, 220);
  });

  test('stays what was guessed where the batches tell nothing', () => {
    const cost = new BatchCost();
    expect(cost.shape).toEqual({ launchTokens: 480, lengthTokens: 6_144 });
    const gpu = { launchMs: 4, tokenMs: 1 / 120, lengthTokens: 6_144 };
    teach(cost, gpu, seededRandom(5), [16]);
    expect(cost.shape.launchTokens).toBeWithin(350, 650);
    expect(cost.shape.lengthTokens).toBeWithin(3_000, 12_000);
  });

  test('is bounded, whatever comes back', () => {
    for (let seed = 1; seed <= 50; seed++) {
      const random = seededRandom(seed);
      const cost = new BatchCost();
      for (let count = 0; count < 200; count++) {
        const ms = random.pick([0, Number.NaN, -1, 1e-9, random.below(10_000), 1e12]);
        cost.learn({ textCount: random.between(1, 64), paddedLength: random.pick(ALL), ms });
        const { launchTokens, lengthTokens } = cost.shape;
        expect(launchTokens).toBeWithin(60, 8_001);
        expect(lengthTokens).toBeWithin(512, 1_000_001);
      }
    }
  });
});
