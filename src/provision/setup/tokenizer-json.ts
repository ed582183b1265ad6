/**
 * Writes the XLM-R tokenizer as BAAI/bge-m3 publishes it, byte for byte: two-space JSON, keys in
 * this order, and the scores as the shortest digits of their doubles. The manifest's hash decides
 * whether it is right.
 *
 * @param pieces by id.
 * @param scores log-probabilities by id, float32 values.
 * @param charsmap SentencePiece's precompiled normalizer.
 * @returns UTF-8 parts in order, made one at a time.
 */
export function* writeTokenizerJson(options: {
  readonly pieces: readonly string[];
  readonly scores: Float32Array;
  readonly charsmap: Uint8Array;
}): Generator<Uint8Array> {
  const { pieces, scores, charsmap } = options;
  const frame = JSON.stringify(
    describeTokenizer(Buffer.from(charsmap).toString('base64')),
    null,
    2,
  );
  const [before = '', after = ''] = frame.split(`"${VOCABULARY_MARK}"`);
  yield Buffer.from(`${before}[\n`);
  for (let start = 0; start < pieces.length; start += PIECES_A_PART) {
    const end = Math.min(start + PIECES_A_PART, pieces.length);
    const lines: string[] = [];
    for (let id = start; id < end; id++) {
      const piece = JSON.stringify(pieces[id]);
      lines.push(`      [\n        ${piece},\n        ${formatScore(scores[id] ?? 0)}\n      ]`);
    }
    yield Buffer.from(lines.join(',\n') + (end < pieces.length ? ',\n' : '\n'));
  }
  yield Buffer.from(`    ]${after}`);
}

// Takes the vocabulary's place until it is written; occurs nowhere else.
const VOCABULARY_MARK = '@vocabulary@';
// About a megabyte of text a part.
const PIECES_A_PART = 16_384;
// The mask's id: the last row of the embedding, after the fairseq vocabulary.
const MASK_ID = 250_001;

function formatScore(score: number): string {
  // The original prints a whole number as a float: `0.0`.
  return Number.isInteger(score) ? score.toFixed(1) : String(score);
}

function describeTokenizer(precompiledCharsmap: string): object {
  const metaspace = { type: 'Metaspace', replacement: '▁', add_prefix_space: true };
  const start = { SpecialToken: { id: '<s>', type_id: 0 } };
  const end = { SpecialToken: { id: '</s>', type_id: 0 } };
  const text = (id: 'A' | 'B') => ({ Sequence: { id, type_id: 0 } });
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [
      addedToken(0, '<s>'),
      addedToken(1, '<pad>'),
      addedToken(2, '</s>'),
      addedToken(3, '<unk>'),
      { ...addedToken(MASK_ID, '<mask>'), lstrip: true },
    ],
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Precompiled', precompiled_charsmap: precompiledCharsmap },
        { type: 'Replace', pattern: { Regex: ' {2,}' }, content: ' ' },
      ],
    },
    pre_tokenizer: metaspace,
    post_processor: {
      type: 'TemplateProcessing',
      single: [start, text('A'), end],
      pair: [start, text('A'), end, end, text('B'), end],
      special_tokens: {
        '</s>': { id: '</s>', ids: [2], tokens: ['</s>'] },
        '<s>': { id: '<s>', ids: [0], tokens: ['<s>'] },
      },
    },
    decoder: metaspace,
    model: { type: 'Unigram', unk_id: 3, vocab: VOCABULARY_MARK, byte_fallback: false },
  };
}

function addedToken(id: number, content: string): object {
  return {
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  };
}
