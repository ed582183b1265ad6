import { QUANTIZED } from '../vectors/quantize.ts';

/** The sparse head of one text: learned weights of the tokens that it holds. */
export interface SparseRow {
  /** Token ids, ascending; as long as `values`. */
  readonly indices: Int32Array;
  /** The weight of each id. */
  readonly values: Float32Array;
  /** The piece of each id, when it was asked for. */
  readonly tokens?: readonly string[];
}

/** The multi-vector (ColBERT) head of one text. */
export interface MultiVector {
  readonly tokenCount: number;
  /** Row-major `[tokenCount, dimension]`. */
  readonly data: Float32Array;
}

/** The same as float16, for replies that carry nothing else. */
export interface HalfVector {
  readonly tokenCount: number;
  readonly data: Float16Array;
  /**
   * Bytes in front of `data`, in its buffer, that the encoder may write over: a reply that ends
   * with a large block is made around it. Default: 0.
   */
  readonly roomBytes?: number;
}

/**
 * What `/encode` answers, before it is bytes. The arrays that stand beside one another have one
 * element a text, in the order of the request. The encoders borrow every array: they copy what they
 * need before they return.
 */
export interface EncodeReply {
  readonly model: string;
  /** Length of each dense row, and of each row of a multi-vector. */
  readonly dimension: number;
  /** The request was one string, not an array: the reply says `embedding`, not `embeddings`. */
  readonly single: boolean;
  /**
   * The dense head, checked by the output guard: every value is finite. Absent when it was not
   * asked for. A row of length 0 is null in JSON, and zeros in a block.
   */
  readonly rows?: readonly Float32Array[] | undefined;
  /** Tokens of each text before truncation, special tokens included. */
  readonly tokenCounts: readonly number[];
  /** Whether each text was cut. */
  readonly truncated: readonly boolean[];
  /** Of which texts nothing was left to encode; told when there is one. */
  readonly empty?: readonly boolean[] | undefined;
  readonly sparse?: readonly SparseRow[] | undefined;
  readonly multiVectors?: readonly MultiVector[] | undefined;
  /** In place of `multiVectors`, for msgpack in float16. */
  readonly halfVectors?: readonly HalfVector[] | undefined;
}

/**
 * A reply as it goes to the socket. A body that is not `isStreamed` is lent until the next
 * reply of this thread is encoded: a `Response`, which copies it, is made of it at once. Another is
 * its holder's until `giveBackReplyMemory`; one that was made around numbers is lent as they
 * are.
 */
export interface EncodedReply {
  readonly body: Uint8Array<ArrayBuffer>;
  readonly contentType: string;
  readonly headers?: Record<string, string>;
}

/** How the components of dense rows may be sent in a binary reply. */
export const REPLY_DTYPES = ['float32', 'float16', ...QUANTIZED] as const;

/** One of them. */
export type ReplyDtype = (typeof REPLY_DTYPES)[number];

/**
 * The form of a reply, as negotiated. `encoding` says how JSON carries the vectors: as numbers, or
 * as base64 strings.
 */
export type ReplyFormat =
  | { readonly kind: 'json'; readonly encoding: 'float' | 'base64' }
  | { readonly kind: 'msgpack'; readonly layout: 'plain' | 'numpy'; readonly dtype: ReplyDtype }
  | { readonly kind: 'raw'; readonly dtype: ReplyDtype };

/** What a caller gets who asks for nothing in particular. */
export const JSON_FORMAT: ReplyFormat = { kind: 'json', encoding: 'float' };

/** JSON whose vectors are base64 of little-endian float32. */
export const JSON_BASE64_FORMAT: ReplyFormat = { kind: 'json', encoding: 'base64' };
