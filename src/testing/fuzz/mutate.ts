import type { SeededRandom } from '../seeded-random.ts';

/** What parsers tend to trip over, spliced into what was right. */
const NASTY: readonly Uint8Array[] = [
  '[[[[[[[[[[[[[[[[',
  '{"query":',
  '"\\ud800"',
  '1e999',
  '-0',
  'null',
  '\u0000',
  '\ufeff',
  '"__proto__":',
  '"query":"x","query":["y"]',
  '99999999999999999999',
].map((text) => Buffer.from(text));

/** Msgpack heads that promise much: long maps, arrays, strings and blocks, and an extension. */
const PROMISES: readonly Uint8Array[] = [
  [0xdf, 0xff, 0xff, 0xff, 0xff],
  [0xdd, 0xff, 0xff, 0xff, 0xff],
  [0xdb, 0x7f, 0xff, 0xff, 0xff],
  [0xc6, 0xff, 0xff, 0xff, 0xff],
  [0xc9, 0xff, 0xff, 0xff, 0xff, 0x01],
  [0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0],
  [0xc1],
].map((bytes) => Uint8Array.from(bytes));

/**
 * Damages `bytes` in one to four places: flips, cuts, doubles, splices, or replaces them at random.
 */
export function mutate(bytes: Uint8Array, random: SeededRandom): Uint8Array<ArrayBuffer> {
  let result = Uint8Array.from(bytes);
  for (let change = random.between(1, 4); change > 0; change--) {
    const at = random.below(result.length + 1);
    const to = Math.min(result.length, at + random.between(1, 12));
    const before = result.subarray(0, at);
    switch (random.below(7)) {
      case 0:
        if (at < result.length) result[at] ^= 1 << random.below(8);
        break;
      case 1:
        result = join(before, result.subarray(to));
        break;
      case 2:
        result = join(before, result.subarray(at, to), result.subarray(at));
        break;
      case 3:
        result = join(before, random.pick(NASTY), result.subarray(at));
        break;
      case 4:
        result = join(before, random.pick(PROMISES), result.subarray(at));
        break;
      case 5:
        result = Uint8Array.from(before);
        break;
      default:
        result = result.map((byte, index) =>
          index >= at && index < to ? random.below(256) : byte,
        );
    }
  }
  return result;
}

function join(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.concat(parts));
}

/** What may stand where something else was wanted. */
const MISFITS: readonly unknown[] = [
  null,
  true,
  -1,
  0.5,
  2 ** 40,
  '',
  'x'.repeat(300),
  '\ud800',
  [],
  [null],
  [[['x']]],
  [1, 2],
  {},
  { length: 1, 0: 'x' },
];

/** The same value with something that does not belong there in the place of one of its parts. */
export function misfit(value: unknown, random: SeededRandom): unknown {
  const isLeaf = typeof value !== 'object' || value === null;
  if (isLeaf || random.below(8) === 0) return random.pick(MISFITS);
  const keys = Object.keys(value);
  if (keys.length === 0) return random.pick(MISFITS);
  const key = random.pick(keys);
  const changed = misfit((value as Record<string, unknown>)[key], random);
  if (!Array.isArray(value)) return { ...value, [key]: changed };
  return value.map((item, index) => (String(index) === key ? changed : item));
}
