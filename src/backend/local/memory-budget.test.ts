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

/** Names what has begun, in order, and ends it by name. */
function track(bytesMax: number) {
  const budget = new MemoryBudget(bytesMax);
  const ends = new Map<string, () => void>();
  const begun: string[] = [];
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 10; turn++) await Promise.resolve();
  };
  return {
    begun,
    async ask(name: string, bytes: number) {
      const { promise, resolve } = Promise.withResolvers<void>();
      ends.set(name, resolve);
      void budget.during(bytes, () => {
        begun.push(name);
        return promise;
      });
      await settle();
    },
    async end(name: string) {
      ends.get(name)?.();
      await settle();
    },
  };
}

test('what does not fit beside the others waits, in order', async () => {
  const { begun, ask, end } = track(100);
  for (const [name, bytes] of Object.entries({ a: 60, b: 50, c: 55 })) await ask(name, bytes);
  expect(begun).toEqual(['a']);
  await end('a');
  expect(begun).toEqual(['a', 'b']);
  await end('b');
  expect(begun).toEqual(['a', 'b', 'c']);
});

/** Caught, planted: nothing goes before the first, as it was; all that fits goes before it. */
test('what fits beside the first that waits goes before it, and never holds it up', async () => {
  const { begun, ask, end } = track(100);
  await ask('long', 80);
  await ask('next', 80);
  await ask('query', 10);
  expect(begun).toEqual(['long', 'query']);
  // Beside the query and the long text that waits there is no room for this one.
  await ask('other', 15);
  expect(begun).toEqual(['long', 'query']);
  await end('long');
  expect(begun).toEqual(['long', 'query', 'next']);
  await end('query');
  expect(begun).toEqual(['long', 'query', 'next', 'other']);
});

test('what went before others counts until it ends', async () => {
  const { begun, ask, end } = track(100);
  await ask('long', 80);
  await ask('next', 80);
  for (const name of ['a', 'b', 'c', 'd']) {
    await ask(name, 10);
    await end(name);
  }
  await ask('e', 10);
  await end('long');
  expect(begun).toEqual(['long', 'a', 'b', 'c', 'd', 'e', 'next']);
  await ask('after', 80);
  await ask('f', 10);
  await end('next');
  expect(begun.slice(-2)).toEqual(['f', 'after']);
});

test('what is larger than all there is runs alone', async () => {
  const { begun, ask, end } = track(100);
  for (const [name, bytes] of Object.entries({ a: 10, b: 500, c: 20 })) await ask(name, bytes);
  expect(begun).toEqual(['a']);
  await end('a');
  expect(begun).toEqual(['a', 'b']);
  await end('b');
  expect(begun).toEqual(['a', 'b', 'c']);
});

test('what fails gives back too', async () => {
  const budget = new MemoryBudget(100);
  const failed = budget.during(100, () => Promise.reject(new Error('no')));
  await expect(failed).rejects.toThrow('no');
  expect(await budget.during(100, async () => 'done')).toBe('done');
});
