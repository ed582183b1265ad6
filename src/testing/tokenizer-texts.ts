/**
 * Texts that try a tokenizer: what people write, and everything that Unicode can do to it. Seeded:
 * a seed is a text.
 */

/** Mulberry32, one step of a Weyl sequence and a mix: small, and the same everywhere. */
export function createRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

type Random = () => number;
type Source = (random: Random) => string;

/**
 * The text of a seed: a few kinds of fragments, some 40 characters together, now and then many
 * more.
 */
export function randomText(seed: number): string {
  const random = createRandom(Math.imul(seed, 0x9e3779b1) ^ 0x5bd1e995);
  const kinds = Array.from({ length: 1 + whole(random, 4) }, () => pick(random, SOURCES));
  const length = random() < 0.02 ? 200 : 1 + whole(random, 24);
  let text = '';
  for (let index = 0; index < length; index++) {
    text += pick(random, kinds)(random);
    if (random() < 0.15) text += ' ';
  }
  return text;
}

function whole(random: Random, below: number): number {
  return Math.floor(random() * below);
}

function pick<T>(random: Random, from: ArrayLike<T>): T {
  return from[whole(random, from.length)] as T;
}

/** Any code point of the ranges, each range as likely as the others. */
function fromRanges(...ranges: readonly [first: number, last: number][]): Source {
  return (random) => {
    const [first, last] = pick(random, ranges);
    return String.fromCodePoint(first + whole(random, last - first + 1));
  };
}

function repeated(source: Source, most: number): Source {
  return (random) => {
    let text = '';
    for (let count = 1 + whole(random, most); count > 0; count--) text += source(random);
    return text;
  };
}

function oneOf(...texts: readonly string[]): Source {
  return (random) => pick(random, texts);
}

function sequence(...sources: readonly Source[]): Source {
  return (random) => sources.map((source) => source(random)).join('');
}

const latin = fromRanges([0x41, 0x5a], [0x61, 0x7a], [0x61, 0x7a], [0xc0, 0x24f], [0x1e00, 0x1eff]);
const cyrillic = fromRanges([0x410, 0x44f], [0x430, 0x44f], [0x400, 0x52f]);
const marks = fromRanges([0x300, 0x36f], [0x300, 0x315], [0x323, 0x328], [0x338, 0x338]);
const anyMarks = fromRanges(
  ...([
    [0x300, 0x36f],
    [0x483, 0x489],
    [0x591, 0x5c7],
    [0x610, 0x61a],
    [0x64b, 0x65f],
    [0x93a, 0x94f],
    [0x1ab0, 0x1ace],
    [0x1dc0, 0x1dff],
    [0x20d0, 0x20f0],
    [0x3099, 0x309a],
    [0xfe00, 0xfe0f],
    [0xfe20, 0xfe2f],
    [0xff9e, 0xff9f],
    [0x1d165, 0x1d169],
    [0x1f3fb, 0x1f3ff],
    [0xe0100, 0xe01ef],
  ] as const satisfies [number, number][]),
);
const zeroWidth = oneOf(
  ...['\u200b', '\u200c', '\u200d', '\u200e', '\u200f', '\u2060', '\ufeff', '\u00ad'],
  ...['\u034f', '\u061c', '\u180e', '\u2028', '\u2029', '\ufffc', '\ufffd', '\u{e0001}'],
);
const spaces = oneOf(' ', ' ', '  ', '\t', '\n', '\r\n', '\r', '\u00a0', '\u3000', '\u2003', '▁');
const pictographs = fromRanges(
  ...([
    [0x1f300, 0x1f64f],
    [0x1f680, 0x1f6ff],
    [0x1f900, 0x1f9ff],
    [0x2600, 0x27bf],
    [0x2190, 0x21ff],
    [0x1f100, 0x1f2ff],
    [0xa9, 0xae],
    [0x2122, 0x2139],
    [0x3297, 0x3299],
  ] as const satisfies [number, number][]),
);
const devanagari = fromRanges([0x900, 0x97f], [0x915, 0x939], [0x958, 0x95f], [0x94d, 0x94d]);
const prepended = oneOf('\u0600', '\u06dd', '\u070f', '\u0890', '\u08e2', '\u0d4e', '\u{110bd}');

const SOURCES: readonly Source[] = [
  repeated(latin, 8),
  repeated(cyrillic, 9),
  sequence(latin, repeated(marks, 3)),
  sequence(cyrillic, repeated(marks, 2)),
  sequence(fromRanges([0x370, 0x3ff], [0x1f00, 0x1fff]), repeated(marks, 3)),
  repeated(fromRanges([0x600, 0x6ff], [0x627, 0x64a], [0xfb50, 0xfdff], [0xfe70, 0xfefe]), 6),
  repeated(fromRanges([0x590, 0x5ff], [0xfb1d, 0xfb4f]), 5),
  repeated(devanagari, 5),
  repeated(fromRanges([0x980, 0x9ff], [0xa00, 0xa7f], [0xb00, 0xbff], [0xd00, 0xd7f]), 5),
  repeated(fromRanges([0xe00, 0xe7f], [0xe80, 0xeff], [0xf00, 0xfff], [0x1000, 0x109f]), 5),
  repeated(fromRanges([0xac00, 0xd7a3]), 4),
  repeated(fromRanges([0x1100, 0x1112], [0x1161, 0x1175], [0x11a8, 0x11c2], [0x1100, 0x11ff]), 5),
  repeated(fromRanges([0x3131, 0x318e], [0xffa0, 0xffdc], [0xa960, 0xa97c], [0xd7b0, 0xd7fb]), 4),
  repeated(fromRanges([0x3040, 0x30ff], [0xff61, 0xff9f]), 5),
  repeated(fromRanges([0x4e00, 0x9fff], [0x3400, 0x4dbf], [0xf900, 0xfaff], [0x2f800, 0x2fa1f]), 4),
  pictographs,
  sequence(pictographs, oneOf('\u200d', '\ufe0f\u200d', '\u0301\u200d'), pictographs, marks),
  sequence(pictographs, fromRanges([0x1f3fb, 0x1f3ff])),
  repeated(fromRanges([0x1f1e6, 0x1f1ff]), 4),
  sequence(latin, anyMarks),
  repeated(anyMarks, 4),
  sequence(prepended, latin, marks),
  sequence(prepended, fromRanges([0xff21, 0xff5a], [0x2100, 0x214f]), marks),
  sequence(
    fromRanges([0x915, 0x939]),
    oneOf('\u094d', '\u094d\u200d', '\u0301'),
    devanagari,
    marks,
  ),
  sequence(fromRanges([0x2100, 0x214f], [0xff00, 0xffef], [0x2460, 0x24ff]), repeated(anyMarks, 2)),
  repeated(fromRanges([0xff01, 0xff5e]), 6),
  repeated(fromRanges([0x1d400, 0x1d7ff], [0x3200, 0x33ff], [0x2070, 0x209c]), 3),
  oneOf('№', '™', '½', 'ﷺ', '﷽', '㍿', '℃', 'Å', 'ﬁ', 'ǆ', '…', '¨', '´', '΅', '῁', '‾'),
  zeroWidth,
  sequence(latin, zeroWidth, marks),
  spaces,
  repeated(spaces, 6),
  (random) => ' '.repeat(whole(random, 300)),
  fromRanges([0, 0x1f], [0x7f, 0x9f]),
  sequence(fromRanges([0, 0x1f], [0x7f, 0x9f]), repeated(anyMarks, 2)),
  oneOf('<s>', '</s>', '<pad>', '<unk>', '<mask>', ' <mask>', '  \t<mask> ', '<mas', '<<s>>', '<'),
  oneOf(
    '\u0085<mask>',
    '\ufeff<mask>',
    '<mask><mask>',
    '<MASK>',
    '＜s＞',
    '＜mask＞',
    '<unk>х',
    '＜unk＞',
  ),
  (random) => {
    // Long runs are searched in a way of their own.
    const most = random() < 0.3 ? 400 : 40;
    return pick(random, [...'аa1.-_=*0😀\u0301한中']).repeat(1 + whole(random, most));
  },
  fromRanges([0, 0xd7ff], [0xe000, 0xffff], [0x10000, 0x10ffff]),
  fromRanges([0, 0xfff]),
  oneOf(...'.,;:!?()«»„“”"\'-–—/\\|@#$%^&*+=[]{}~`§©®°±×÷€£¥₽'),
  (random) => String(whole(random, 1e6)),
  oneOf(
    'Статья',
    'договор',
    'суд',
    'истец',
    'взыскать',
    'court',
    'The',
    'plaintiff',
    'shall',
    'https://a.b/c?d=1',
  ),
];
