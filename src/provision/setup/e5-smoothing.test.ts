import { expect, test } from 'bun:test';
import smoothing from './e5-smoothing.json';
import { divisorsOf, encodeDivisors } from './e5-smoothing.ts';

const HIDDEN = 384;
const INNER = 1536;

test('each input of a product has a divisor for each of its channels', () => {
  const parts = ['ctx', 'x1', 'g', 'x2'];
  const names = Array.from({ length: 12 }, (_, layer) => parts.map((part) => `l${layer}.${part}`));
  const inputs = ['h0', ...names.flat()].filter((name) => name !== 'l11.x2');
  expect(Object.keys(smoothing.divisors).sort()).toEqual(inputs.sort());
  for (const input of inputs) {
    const divisors = divisorsOf(input);
    expect(divisors.length).toBe(input.endsWith('.g') ? INNER : HIDDEN);
    expect(divisors.every((divisor) => divisor > 0)).toBe(true);
  }
});

test('what is written is read again, and what nobody measured is refused', () => {
  expect(encodeDivisors(divisorsOf('l4.g'))).toBe(smoothing.divisors['l4.g']);
  // Nobody knows of smaller or larger ones; they must not come out as others of that file.
  expect(encodeDivisors([2 ** -40, 2 ** 40])).toBe(Buffer.from([0, 255]).toString('base64'));
  expect(() => divisorsOf('l12.g')).toThrow('no divisors for "l12.g"');
});
