import { createRandom } from './tokenizer-texts.ts';

/**
 * A `tokenizer.json` of the XLM-R family, small enough to compile in a millisecond: letters and
 * some pairs of them with random scores, and a charsmap of a few keys of every kind.
 */
export interface SmallTokenizer {
  /** The file, parsed: a test changes what it likes and stringifies it. */
  readonly json: SmallTokenizerJson;
  readonly bytes: () => Uint8Array;
}

/** The shape of the file, loose where tests break it on purpose. */
export interface SmallTokenizerJson {
  added_tokens: Record<string, unknown>[];
  normalizer: Record<string, unknown> | null;
  pre_tokenizer: Record<string, unknown> | null;
  post_processor: Record<string, unknown> | null;
  decoder: Record<string, unknown> | null;
  model: Record<string, unknown> & { vocab: [string, number][] };
  [other: string]: unknown;
}

/** Keys and replacements: a single, a removal, a space, a pair of an accent, one that grows. */
const CHARSMAP: readonly (readonly [key: string, replacement: string])[] = [
  ['Ａ', 'a'],
  ['\u0001', ''],
  ['\n', ' '],
  ['\r', ' '],
  ['▁', ' '],
  ['№', 'no'],
  ['e\u0301', 'é'],
  ['\u0340', '\u0300'],
];

/** @param seed decides the scores and which pairs of letters are pieces. */
export function createSmallTokenizer(seed = 1): SmallTokenizer {
  const random = createRandom(seed);
  const letters = [...'abcdeéno\u0300\u0301абв中😀.'];
  const vocab: [string, number][] = [
    ['<s>', 0],
    ['<pad>', 0],
    ['</s>', 0],
    ['<unk>', 0],
    ['▁', -2 - random()],
    ...letters.map((letter): [string, number] => [letter, -3 - random() * 5]),
  ];
  for (const first of ['▁', ...letters]) {
    for (const second of letters) {
      if (random() < 0.3) vocab.push([first + second, -4 - random() * 5]);
    }
  }
  vocab.push(['▁abc', -5.25], ['▁<s', -9.5]);
  const json: SmallTokenizerJson = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: ['<s>', '<pad>', '</s>', '<unk>'].map((content, id) => addedToken(id, content)),
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Precompiled', precompiled_charsmap: encodeCharsmap(CHARSMAP) },
        { type: 'Replace', pattern: { Regex: ' {2,}' }, content: ' ' },
      ],
    },
    pre_tokenizer: { type: 'Metaspace', replacement: '▁', add_prefix_space: true },
    post_processor: {
      type: 'TemplateProcessing',
      single: [special('<s>'), { Sequence: { id: 'A', type_id: 0 } }, special('</s>')],
      pair: [special('<s>'), { Sequence: { id: 'A', type_id: 0 } }, special('</s>')],
      special_tokens: {
        '<s>': { id: '<s>', ids: [0], tokens: ['<s>'] },
        '</s>': { id: '</s>', ids: [2], tokens: ['</s>'] },
      },
    },
    decoder: { type: 'Metaspace', replacement: '▁', add_prefix_space: true },
    model: { type: 'Unigram', unk_id: 3, vocab, byte_fallback: false },
  };
  return { json, bytes: () => new TextEncoder().encode(JSON.stringify(json)) };
}

function special(id: string): Record<string, unknown> {
  return { SpecialToken: { id, type_id: 0 } };
}

/** An entry of `added_tokens`. */
export function addedToken(id: number, content: string): Record<string, unknown> {
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false };
  return { id, content, ...flags, special: true };
}

/**
 * A precompiled charsmap in base64: a Darts double array in which the children of each node have
 * 256 units to themselves, and behind it the replacements. Wasteful, and simple enough to trust.
 */
export function encodeCharsmap(
  entries: readonly (readonly [key: string, replacement: string])[],
): string {
  const nodes = new Map<string, { block: number; value: number | undefined }>();
  const blob: number[] = [];
  const nodeOf = (path: string): { block: number; value: number | undefined } => {
    const node = nodes.get(path) ?? { block: (nodes.size + 1) * 256, value: undefined };
    nodes.set(path, node);
    return node;
  };
  nodeOf('');
  for (const [key, replacement] of entries) {
    const bytes = [...Buffer.from(key)];
    for (let end = 1; end <= bytes.length; end++) nodeOf(bytes.slice(0, end).join());
    nodeOf(bytes.join()).value = blob.length;
    blob.push(...Buffer.from(replacement), 0);
  }
  const units = new Uint32Array((nodes.size + 1) * 256);
  units[0] = 256 << 10;
  for (const [path, node] of nodes) {
    const isLeaf = node.value !== undefined;
    if (node.value !== undefined) units[node.block] = (0x80000000 | node.value) >>> 0;
    if (path === '') continue;
    const byte = Number(path.split(',').at(-1));
    const parent = nodeOf(path.split(',').slice(0, -1).join());
    const at = parent.block ^ byte;
    units[at] = (((at ^ node.block) << 10) | (isLeaf ? 1 << 8 : 0) | byte) >>> 0;
  }
  const size = Buffer.alloc(4);
  size.writeUInt32LE(units.byteLength);
  return Buffer.concat([size, Buffer.from(units.buffer), Buffer.from(blob)]).toString('base64');
}
