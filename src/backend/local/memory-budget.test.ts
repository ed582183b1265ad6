import { expect, test } from 'bun:test';
import { MemoryBudget, planTextMemory, textBytes, tokensThatFit } from './memory-budget.ts';

const FUSED = planTextMemory({ dimension: 1_024, storesScores: false });
const EXPORTED = planTextMemory({ dimension: 1_024, storesScores: true });

test('scores of pairs are what a long text is made of, where a graph stores them', () => {
  // Measured with BGE-M3's shape: 11.4 GB of 8,192 tokens, 2.3 GB of weights among them.
  expect(textBytes(EXPORTED, 8_192) / 1e9).toBeWithin(9, 14);
  expect(textBytes(FUSED, 8_192) / 1e9).toBeWithin(0.5, 1.2);
});

test.each([FUSED, EXPORTED])(
  'what fits takes no more than there is, and one token more does',
  (memory) => {
    for (const bytes of [1e6, 0.5e9, 2e9, 40e9]) {
      const tokenCount = tokensThatFit(memory, bytes);
      expect(textBytes(memory, tokenCount)).toBeLessThanOrEqual(bytes);
      expect(textBytes(memory, tokenCount + 1)).toBeGreaterThan(bytes);
    }
  },
);

test('what does not fit beside the others waits, in order, until they give back', async () => {
  const budget = new MemoryBudget(100);
  const started: number[] = [];
  const take = (bytes: number) => budget.take(bytes).then(() => started.push(bytes));
  for (const bytes of [60, 50, 40]) void take(bytes);
  await Promise.resolve();
  // The third would fit beside the first, but a long text would wait for ever behind short ones.
  expect(started).toEqual([60]);
  budget.giveBack(60);
  await Promise.resolve();
  expect(started).toEqual([60, 50, 40]);
  budget.giveBack(50);
  budget.giveBack(40);
});

test('what is larger than all there is runs alone', async () => {
  const budget = new MemoryBudget(100);
  const started: number[] = [];
  const take = (bytes: number) => budget.take(bytes).then(() => started.push(bytes));
  for (const bytes of [10, 500, 20]) void take(bytes);
  await Promise.resolve();
  expect(started).toEqual([10]);
  budget.giveBack(10);
  await Promise.resolve();
  expect(started).toEqual([10, 500]);
  budget.giveBack(500);
  await Promise.resolve();
  expect(started).toEqual([10, 500, 20]);
});

test('what fails gives back too', async () => {
  const budget = new MemoryBudget(100);
  const failed = budget.during(100, () => Promise.reject(new Error('no')));
  await expect(failed).rejects.toThrow('no');
  expect(await budget.during(100, async () => 'done')).toBe('done');
});
