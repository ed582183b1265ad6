import { describe, expect, test } from 'bun:test';
import { SETTINGS } from '../config/settings.ts';
import { seededRandom } from '../testing/seeded-random.ts';
import {
  BATCH_TOKENS_MAX,
  commonProfiles,
  type EngineProfile,
  formatProfiles,
  parseProfiles,
  planProfiles,
  profileRanges,
  textsOfLength,
} from './engine-profiles.ts';

/**
 * Faults that were planted by hand, and that this suite caught: a profile that begins where the one
 * before ends; one text too many; an optimum outside of its range; a last profile that ends short
 * of the longest text; a list read in any order.
 */

const DEFAULTS = { batchTokensMax: BATCH_TOKENS_MAX, tokensMax: 8_192, batchTextsMax: 64 };

test('are four for BGE-M3, all but the first of 16,384 tokens', () => {
  expect(formatProfiles(planProfiles(DEFAULTS))).toBe('64x64,32x512,8x2048,2x8192');
});

test('are for what the server sends by default', () => {
  expect(SETTINGS.batchTokensMax.default).toBe(BATCH_TOKENS_MAX);
  expect(SETTINGS.batchTextsMax.default).toBe(DEFAULTS.batchTextsMax);
});

test('each have an optimum of their own', () => {
  const optima = profileRanges(planProfiles(DEFAULTS)).map(({ opt }) => opt);
  expect(formatProfiles(optima)).toBe('16x32,32x256,8x1024,2x4096');
});

/** How Triton's TensorRT backend rates a context for a request: the batch against both optima. */
function tritonDistance({ min, opt, max }: EngineProfile, texts: number, tokens: number): number {
  const holds =
    texts >= min.textCount &&
    texts <= max.textCount &&
    tokens >= min.tokenCount &&
    tokens <= max.tokenCount;
  if (!holds) return Number.POSITIVE_INFINITY;
  return 2 * (Math.abs(opt.textCount - texts) + Math.abs(opt.tokenCount - texts));
}

describe('any settings', () => {
  test('give a profile to each batch that fits, and Triton picks it', () => {
    const random = seededRandom(3);
    for (let round = 0; round < 2_000; round++) {
      const settings = {
        batchTokensMax: random.between(1, 100_000),
        tokensMax: random.between(2, random.pick([16, 700, 8_192])),
        batchTextsMax: random.between(1, 300),
      };
      const shapes = planProfiles(settings);
      const ranges = profileRanges(shapes);
      expect(shapes.at(-1)?.tokenCount).toBe(settings.tokensMax);
      for (const { min, opt, max } of ranges) {
        expect(opt.textCount).toBeWithin(min.textCount, max.textCount + 1);
        expect(opt.tokenCount).toBeWithin(min.tokenCount, max.tokenCount + 1);
        const tokens = max.textCount * max.tokenCount;
        if (max.textCount > 1) expect(tokens).toBeLessThanOrEqual(settings.batchTokensMax);
        expect(max.textCount).toBeWithin(1, settings.batchTextsMax + 1);
      }
      const tokens = random.between(2, settings.tokensMax);
      const texts = textsOfLength(shapes, tokens);
      const distances = ranges.map((range) => tritonDistance(range, texts, tokens));
      const fitting = distances.filter(Number.isFinite);
      expect(fitting).toHaveLength(1);
      const picked = distances.indexOf(Math.min(...distances));
      expect(picked).toBe(shapes.findIndex(({ tokenCount }) => tokens <= tokenCount));
      expect(textsOfLength(shapes, settings.tokensMax + 1)).toBe(0);
    }
  });
});

test('of several engines are what each of them takes', () => {
  const small = planProfiles({ ...DEFAULTS, batchTokensMax: 8_192 });
  expect(commonProfiles([planProfiles(DEFAULTS), small])).toEqual(small);
  const other = [
    { textCount: 16, tokenCount: 128 },
    { textCount: 4, tokenCount: 1_024 },
  ];
  expect(formatProfiles(commonProfiles([small, other]))).toBe('16x64,16x128,4x512,4x1024');
});

test('are read as they were written', () => {
  const shapes = planProfiles(DEFAULTS);
  expect(parseProfiles(formatProfiles(shapes))).toEqual(shapes);
});

test.each([
  '',
  '64',
  '64x',
  '0x64',
  '64x64,32x64',
  '64x64,8x32',
  '8x64,32x512',
  '64x64;32x512',
  '1e3x4',
])('%p is not a list of profiles', (text) => {
  expect(parseProfiles(text)).toBeUndefined();
});
