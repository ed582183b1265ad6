import { describe, expect, test } from 'bun:test';
import { formatProfiles, planProfiles, textsOfLength } from '../../../model/engine-profiles.ts';
import { describePlan } from './describe-plan.ts';
import { engineModelOf, fitProfiles, profileLadder, reckonMemory } from './fit-profiles.ts';

/**
 * Faults that were planted by hand, and that this suite caught: the scores of attention counted
 * once for a text and not for each head; the building left out; a rung larger than the one before;
 * a ladder that gives up the longest text.
 */

const model = engineModelOf(1_024);
const wanted = planProfiles({ batchTokensMax: 16_384, tokensMax: 8_192, batchTextsMax: 64 });
const rungs = profileLadder(wanted);

describe('the memory of BGE-M3', () => {
  test('is that of the weights and of 2 x 8,192 tokens, and no more for 64 texts of them', () => {
    const { servingBytes, buildingBytes } = reckonMemory({
      model,
      profiles: wanted,
      isFused: true,
    });
    expect(servingBytes / 1e9).toBeCloseTo(3.5, 1);
    expect(buildingBytes / 1e9).toBeCloseTo(4.5, 1);
    const profiles = [{ textCount: 32, tokenCount: 8_192 }];
    const { servingBytes: before } = reckonMemory({ model, profiles, isFused: true });
    expect(before / 1e9).toBeCloseTo(11.4, 1);
  });

  test('has the scores of 16 heads where attention is not fused', () => {
    const profiles = [{ textCount: 1, tokenCount: 8_192 }];
    const bytes = [true, false].map(
      (isFused) => reckonMemory({ model, profiles, isFused }).servingBytes,
    );
    expect(((bytes[1] ?? 0) - (bytes[0] ?? 0)) / 1e9).toBeCloseTo((10 * 16 * 8_192 ** 2) / 1e9, 6);
  });
});

describe('the ladder', () => {
  test('halves the longest first, one by one, and then leaves profiles out', () => {
    expect(rungs.map(formatProfiles)).toEqual([
      '64x64,32x512,8x2048,2x8192',
      '64x64,32x512,8x2048,1x8192',
      '64x64,32x512,4x2048,1x8192',
      '64x64,16x512,4x2048,1x8192',
      '64x64,16x512,2x2048,1x8192',
      '64x64,8x512,2x2048,1x8192',
      '64x64,8x512,1x8192',
      '64x64,1x8192',
    ]);
  });

  test('never needs more than the rung before, and takes a text of any length', () => {
    for (const isFused of [true, false]) {
      let before = Number.POSITIVE_INFINITY;
      for (const profiles of rungs) {
        const { servingBytes, buildingBytes } = reckonMemory({ model, profiles, isFused });
        expect(servingBytes).toBeLessThan(before);
        before = servingBytes;
        expect(buildingBytes).toBeGreaterThan(3 * model.weightBytes);
        for (const length of [2, 64, 65, 512, 2_000, 8_192]) {
          expect(textsOfLength(profiles, length)).toBeGreaterThan(0);
        }
      }
    }
  });
});

test.each([
  [8, true, '64x64,32x512,8x2048,2x8192'],
  [4.6, true, '64x64,16x512,4x2048,1x8192'],
  [4, true, undefined],
  [40, false, '64x64,32x512,8x2048,2x8192'],
  [24, false, '64x64,32x512,8x2048,1x8192'],
  [8, false, undefined],
])('%p GB, fused %p: %p', (size, isFused, profiles) => {
  const fit = fitProfiles({ model, rungs, isFused, freeBytes: size * 1e9 });
  expect(fit && formatProfiles(fit.profiles)).toBe(profiles as string);
});

test('a plan says profiles, tokens, memory, disk and time', () => {
  const text = describePlan({ model, wanted, freeBytes: 16e9 });
  for (const words of [
    'asked for: 64x64,32x512,8x2048,2x8192',
    'free on the GPU: 16.0 GB',
    'if attention is fused: 64x64,32x512,8x2048,2x8192',
    'if it is not: 64x64,8x512,2x2048,1x8192',
    'weights 1.1 GB',
    'disk: 2.3 GB',
    'minutes to build, estimated',
  ]) {
    expect(text).toContain(words);
  }
});
