/**
 * A SentencePiece model file from a `tokenizer.json` of the XLM-R family, so that SentencePiece can
 * be timed on the same pieces. It differs from the tokenizer in the normalizer's details and in the
 * numbering of ids; for time that is no matter.
 */

/** Types of a piece in sentencepiece_model.proto. */
const PIECE = { normal: 1, unknown: 2, control: 3 } as const;

/** The model type Unigram in sentencepiece_model.proto. */
const UNIGRAM = 1;

interface TokenizerJson {
  readonly normalizer: { readonly normalizers: readonly { precompiled_charsmap?: string }[] };
  readonly model: { readonly vocab: readonly [piece: string, score: number][] };
}

/** The bytes of the model, in protocol buffer encoding. */
export function createSentencePieceModel(tokenizer: TokenizerJson): Uint8Array {
  const charsmap = tokenizer.normalizer.normalizers[0]?.precompiled_charsmap ?? '';
  const pieces = [
    encodePiece('<unk>', 0, PIECE.unknown),
    encodePiece('<s>', 0, PIECE.control),
    encodePiece('</s>', 0, PIECE.control),
    ...tokenizer.model.vocab
      .filter(([piece]) => !/^<.+>$/.test(piece))
      .map(([piece, score]) => encodePiece(piece, score, PIECE.normal)),
  ];
  const trainer = [varint(3, UNIGRAM), varint(4, pieces.length)];
  const normalizer = [
    bytes(1, Buffer.from('nmt_nfkc')),
    bytes(2, Buffer.from(charsmap, 'base64')),
    varint(3, 1),
    varint(4, 1),
    varint(5, 1),
  ];
  return Buffer.concat([
    ...pieces.map((piece) => bytes(1, piece)),
    bytes(2, Buffer.concat(trainer)),
    bytes(3, Buffer.concat(normalizer)),
  ]);
}

function encodePiece(piece: string, score: number, type: number): Buffer {
  const float = Buffer.alloc(5);
  float[0] = (2 << 3) | 5;
  float.writeFloatLE(score, 1);
  return Buffer.concat([bytes(1, Buffer.from(piece)), float, varint(3, type)]);
}

function varint(field: number, value: number): Buffer {
  return Buffer.from([field << 3, ...digits(value)]);
}

function bytes(field: number, content: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([(field << 3) | 2, ...digits(content.length)]), content]);
}

/** Seven bits a byte, the lowest first. */
function digits(value: number): number[] {
  const low = value & 0x7f;
  const rest = Math.floor(value / 128);
  return rest === 0 ? [low] : [low | 0x80, ...digits(rest)];
}
