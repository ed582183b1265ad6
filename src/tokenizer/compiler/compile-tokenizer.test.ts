import { describe, expect, test } from 'bun:test';
import { createReferenceFromJson } from '../../testing/reference-tokenizer.ts';
import {
  addedToken,
  createSmallTokenizer,
  encodeCharsmap,
  type SmallTokenizerJson,
} from '../../testing/small-tokenizer.ts';
import { compareTokenizers } from '../../testing/tokenizer-comparison.ts';
import { createRandom } from '../../testing/tokenizer-texts.ts';
import { TokenizerInvalidError, TokenizerUnsupportedError } from '../tokenizer-error.ts';
import { readCompiledTokenizer } from '../xlmr/compiled-format.ts';
import { createCompiledTokenizer } from '../xlmr/compiled-tokenizer.ts';
import { compileTokenizer } from './compile-tokenizer.ts';

/** Compiles the small tokenizer after a change to it. */
function compileChanged(change: (json: SmallTokenizerJson) => void): Uint8Array<ArrayBuffer> {
  const { json, bytes } = createSmallTokenizer();
  change(json);
  return compileTokenizer(bytes());
}

function charsmapOf(json: SmallTokenizerJson, charsmap: string): void {
  json.normalizer = { type: 'Precompiled', precompiled_charsmap: charsmap };
}

const PARTS = ['a', 'b', 'ab', 'abc', 'e\u0301', 'é', 'о', 'Ａ', 'Ａ\u0301', '№', '\u0340', '.'];
const RARE = [
  '\u0001',
  '\n',
  '\r\n',
  '▁',
  '😀',
  '中',
  '\u0301',
  'в\u0301',
  '<s>',
  '<x>',
  '<s',
  '\t',
];

/** Texts of the small tokenizer's characters and of some that it lacks. */
function smallTexts(count: number, seed: number): string[] {
  const random = createRandom(seed);
  const from = [...PARTS, ...RARE, ' ', ' ', '  '];
  return Array.from({ length: count }, () => {
    const length = Math.floor(random() * 12);
    return Array.from({ length }, () => from[Math.floor(random() * from.length)]).join('');
  });
}

const VARIANTS: readonly (readonly [name: string, change: (json: SmallTokenizerJson) => void])[] = [
  ['as it is', () => undefined],
  ['without the collapse of spaces', (json) => charsmapOf(json, encodeCharsmap([['Ａ', ' a']]))],
  [
    'with a Sequence of one',
    (json) => {
      const first = { type: 'Precompiled', precompiled_charsmap: encodeCharsmap([['b', '']]) };
      json.normalizer = { type: 'Sequence', normalizers: [first] };
    },
  ],
  ['without a template', (json) => Object.assign(json, { post_processor: null })],
  [
    'with added tokens that strip, that are no pieces, that are not special',
    (json) => {
      const next = json.model.vocab.length;
      json.added_tokens.push(
        { ...addedToken(next, '<x>'), lstrip: true, rstrip: true, special: false },
        { ...addedToken(next + 1, 'b<b'), rstrip: true },
        { ...addedToken(next + 2, '<x>a'), special: false },
      );
    },
  ],
  [
    'with scores of many digits',
    (json) => {
      const random = createRandom(5);
      for (const entry of json.model.vocab)
        entry[1] = -random() * 10 ** Math.floor(random() * 9 - 5);
      json.model.vocab[4][1] = -1e-7;
    },
  ],
];

describe('a compiled tokenizer says what the reference says', () => {
  test.each(VARIANTS)('%s', async (_name, change) => {
    for (let seed = 1; seed <= 5; seed++) {
      const { json, bytes } = createSmallTokenizer(seed);
      change(json);
      const reference = createReferenceFromJson(JSON.stringify(json));
      const tables = readCompiledTokenizer(compileTokenizer(bytes()).buffer);
      const tokenizer = createCompiledTokenizer(tables);
      const texts = smallTexts(400, seed);
      expect(await compareTokenizers(tokenizer, reference, texts)).toEqual([]);
      for (const text of texts.slice(0, 50)) {
        const [{ ids }] = await reference.encode([text], { specialTokens: true });
        for (const skipSpecialTokens of [true, false]) {
          const expected = await reference.decode(ids, { skipSpecialTokens });
          expect(tokenizer.decode(ids, { skipSpecialTokens })).toBe(expected);
        }
      }
    }
  });
});

const UNSUPPORTED: readonly (readonly [
  message: string,
  change: (json: SmallTokenizerJson) => void,
])[] = [
  ['tokenizer.json.extra', (json) => Object.assign(json, { extra: 1 })],
  ['normalizer: null', (json) => Object.assign(json, { normalizer: null })],
  ['normalizer: NFKC', (json) => Object.assign(json, { normalizer: { type: 'NFKC' } })],
  [
    'normalizer: Replace of {"Regex":"\\\\s+"} by " "',
    (json) => {
      const steps = json.normalizer?.normalizers as Record<string, unknown>[];
      steps[1].pattern = { Regex: '\\s+' };
    },
  ],
  [
    'normalizer: Strip after Replace',
    (json) => {
      const steps = json.normalizer?.normalizers as Record<string, unknown>[];
      steps.push({ type: 'Strip' });
    },
  ],
  [
    'pre_tokenizer: Whitespace',
    (json) => Object.assign(json, { pre_tokenizer: { type: 'Whitespace' } }),
  ],
  [
    'pre_tokenizer.add_prefix_space: false',
    (json) => Object.assign(json.pre_tokenizer ?? {}, { add_prefix_space: false }),
  ],
  [
    'pre_tokenizer.prepend_scheme: first',
    (json) => Object.assign(json.pre_tokenizer ?? {}, { prepend_scheme: 'first' }),
  ],
  [
    'pre_tokenizer.split: false',
    (json) => Object.assign(json.pre_tokenizer ?? {}, { split: false }),
  ],
  [
    'decoder: another replacement',
    (json) => Object.assign(json.decoder ?? {}, { replacement: '_' }),
  ],
  ['model: BPE', (json) => Object.assign(json.model, { type: 'BPE' })],
  ['model.byte_fallback', (json) => Object.assign(json.model, { byte_fallback: true })],
  ['contains the unknown piece', (json) => json.model.vocab.push(['a<unk>', -1])],
  [
    'added_tokens[0].single_word',
    (json) => Object.assign(json.added_tokens[0], { single_word: true }),
  ],
  [
    'added_tokens[1].normalized',
    (json) => Object.assign(json.added_tokens[1], { normalized: true }),
  ],
  [
    'post_processor: RobertaProcessing',
    (json) => Object.assign(json, { post_processor: { type: 'RobertaProcessing' } }),
  ],
  ['U+20', (json) => charsmapOf(json, encodeCharsmap([[' ', '_']]))],
  ['U+1100', (json) => charsmapOf(json, encodeCharsmap([['\u1100', 'g']]))],
  ['U+600', (json) => charsmapOf(json, encodeCharsmap([['\u0600', 'x']]))],
  ['U+301 U+302', (json) => charsmapOf(json, encodeCharsmap([['\u0301\u0302', 'x']]))],
  [
    'a short key of three characters',
    (json) => charsmapOf(json, encodeCharsmap([['a\u0301\u0302', 'x']])),
  ],
];

describe('what is not implemented is refused by name', () => {
  test.each(UNSUPPORTED)('%s', (message, change) => {
    expect(() => compileChanged(change)).toThrow(TokenizerUnsupportedError);
    expect(() => compileChanged(change)).toThrow(message);
  });
});

const INVALID: readonly (readonly [message: string, change: (json: SmallTokenizerJson) => void])[] =
  [
    ['normalizer: not an object', (json) => Object.assign(json, { normalizer: 5 })],
    ['model.vocab: not an array', (json) => Object.assign(json.model, { vocab: {} })],
    ['model.vocab[0]: not a piece', (json) => json.model.vocab.unshift(['a', Number.NaN])],
    ['model.unk_id: not in the vocab', (json) => Object.assign(json.model, { unk_id: 99_999 })],
    ['added_tokens[0].id: 7, not 0', (json) => Object.assign(json.added_tokens[0], { id: 7 })],
    ['precompiled_charsmap: not base64', (json) => charsmapOf(json, '?')],
    ['does not fit', (json) => charsmapOf(json, Buffer.from([255, 0, 0, 0]).toString('base64'))],
  ];

describe('what is broken is refused by name', () => {
  test.each(INVALID)('%s', (message, change) => {
    expect(() => compileChanged(change)).toThrow(TokenizerInvalidError);
    expect(() => compileChanged(change)).toThrow(message);
  });

  test('not JSON, not UTF-8', () => {
    expect(() => compileTokenizer(new TextEncoder().encode('{'))).toThrow(TokenizerInvalidError);
    expect(() => compileTokenizer(Uint8Array.of(0xff))).toThrow(TokenizerInvalidError);
  });
});

test('the same source gives the same bytes', () => {
  const { bytes } = createSmallTokenizer();
  expect(compileTokenizer(bytes())).toEqual(compileTokenizer(bytes()));
});
