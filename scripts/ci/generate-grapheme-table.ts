/**
 * Writes `src/tokenizer/compiler/grapheme-table.ts`: the grapheme cluster classes of every code
 * point, as the reference tokenizer sees them.
 *
 * The reference normalizes per cluster, by the Unicode version that it was built with, which is not
 * the one in this runtime. So each class is asked of the reference itself: a tiny charsmap that
 * maps one probe character, and a string in which that character is replaced differently when a
 * cluster boundary stands before or after the code point in question.
 *
 * usage: bun scripts/ci/generate-grapheme-table.ts
 */
import { type Normalizer, precompiled } from '@anush008/tokenizers';
import { GRAPHEME } from '../../src/tokenizer/xlmr/character-lookup.ts';

/**
 * Combining acute and diaeresis, two bytes each: they extend any cluster and belong to no class but
 * that.
 */
const ACUTE = '\u0301';
const DIAERESIS = '\u0308';
const ZWJ = '\u200d';
/** Devanagari KA and its virama: an Indic consonant and linker. */
const KA = '\u0915';
const VIRAMA = '\u094d';

/**
 * A Darts double array with the one key `from`, in the layout of SentencePiece's charsmap, followed
 * by `to`.
 */
function charsmapNormalizer(from: string, to: string): Normalizer {
  const key = Buffer.from(from);
  const units = new Uint32Array(256 * (key.length + 2));
  let position = 256;
  units[0] = position << 10;
  for (const [depth, byte] of key.entries()) {
    const child = position ^ byte;
    const next = 256 * (depth + 2);
    const leaf = depth === key.length - 1 ? 1 << 8 : 0;
    units[child] = (((child ^ next) << 10) | leaf | byte) >>> 0;
    position = next;
  }
  units[position] = 0x80000000;
  const size = Buffer.alloc(4);
  size.writeUInt32LE(units.byteLength);
  const blob = Buffer.concat([size, Buffer.from(units.buffer), Buffer.from(`${to}\0`)]);
  return precompiled([...blob]);
}

const fromA = charsmapNormalizer('a', 'b');
const fromAcute = charsmapNormalizer(ACUTE, 'b');
const fromTrademark = charsmapNormalizer('\u2122', 'b');
const fromKa = charsmapNormalizer(KA, 'b');

function classOf(c: string): number {
  let bits = 0;
  // `a` is replaced either way; what clung to it in a cluster shorter than six bytes vanishes with
  // it.
  if (fromA.normalizeString(`a${c}`) === 'b') bits |= GRAPHEME.attaches;
  // In a cluster that starts with something else, `a` is replaced alone and its accent stays.
  const attaches = (bits & GRAPHEME.attaches) !== 0;
  if (!attaches && c !== 'a' && fromA.normalizeString(`${c}a${ACUTE}`).endsWith(ACUTE)) {
    bits |= GRAPHEME.prepend;
  }
  // After a control the accent starts a cluster of its own, and takes the next mark with it.
  if (!fromAcute.normalizeString(`${c}${ACUTE}${DIAERESIS}`).endsWith(DIAERESIS)) {
    bits |= GRAPHEME.control;
  }
  if (c === ZWJ) bits |= GRAPHEME.joiner;
  if (c === ACUTE || bits & (GRAPHEME.prepend | GRAPHEME.control))
    return bits | extendBits(c, bits);
  const joinsPictograph = fromTrademark.normalizeString(`${c}${ZWJ}\u2122${ACUTE}`).endsWith(ACUTE);
  if (joinsPictograph && !attaches) bits |= GRAPHEME.pictograph;
  const joinsConsonant = fromKa.normalizeString(`${c}${VIRAMA}${KA}${ACUTE}`).endsWith(ACUTE);
  if (joinsConsonant && !attaches) bits |= GRAPHEME.consonant;
  return bits | extendBits(c, bits);
}

/** What a mark lets through: a pictograph before a joiner, a consonant before a linker. */
function extendBits(c: string, bits: number): number {
  if ((bits & GRAPHEME.attaches) === 0) return 0;
  let more = 0;
  if (fromTrademark.normalizeString(`\u00a9${c}${ZWJ}\u2122${ACUTE}`).endsWith(ACUTE)) {
    more |= GRAPHEME.pictographExtend;
  }
  if (fromKa.normalizeString(`${KA}${VIRAMA}${c}${KA}${ACUTE}`).endsWith(ACUTE)) {
    more |= GRAPHEME.consonantExtend;
  }
  if (fromKa.normalizeString(`${KA}${c}${KA}${ACUTE}`).endsWith(ACUTE)) more |= GRAPHEME.linker;
  return more;
}

function ranges(): [start: number, bits: number][] {
  const result: [number, number][] = [[0, -1]];
  let previous = -1;
  for (let codePoint = 0; codePoint <= 0x10ffff; codePoint++) {
    const isSurrogate = codePoint >= 0xd800 && codePoint <= 0xdfff;
    const bits = isSurrogate ? 0 : classOf(String.fromCodePoint(codePoint));
    if (bits !== previous) result.push([codePoint, bits]);
    previous = bits;
  }
  return result.slice(1);
}

const all = ranges();
const words = all.map(([start, bits], index) => {
  const before = all[index - 1]?.[0] ?? 0;
  return `${(start - before).toString(36)}.${bits.toString(36)}`;
});
const lines: string[] = [];
for (const word of words) {
  const last = lines.at(-1);
  if (last !== undefined && last.length + word.length < 90)
    lines[lines.length - 1] = `${last} ${word}`;
  else lines.push(word);
}
await Bun.write(
  new URL('../../src/tokenizer/compiler/grapheme-table.ts', import.meta.url).pathname,
  `/**
 * Grapheme cluster classes by range, in order: the distance from the previous range's start and the
 * class bits of \`GRAPHEME\`, both in base 36. Written by
 * \`scripts/ci/generate-grapheme-table.ts\`, from the answers of the reference (Unicode
 * 16.0); not edited by hand.
 */
export const GRAPHEME_TABLE = [
${lines.map((line) => `  '${line}',`).join('\n')}
].join(' ');
`,
);
console.log(`${all.length} ranges`);
