import { withCallersField } from '../../client/api-encoder-error.ts';
import type { ClientClock } from '../../client/cancellation.ts';
import { PRIORITY_HEADER } from '../../client/client-options.ts';
import { type EncodeReply, type Head, readEncodeReply } from '../../client/read-encode-reply.ts';
import { type Fetch, tryOnce } from '../../client/transport.ts';
import type { EncodedRow } from '../sinks/sink.ts';

/** What all requests of a job have in common. */
export interface RequestOptions {
  readonly heads: readonly Head[];
  readonly inputType: 'query' | 'passage';
  readonly truncate: boolean;
  readonly apiKey: string | undefined;
  readonly clock: ClientClock;
}

/** What one reply says of its texts. */
export interface EncodedTexts {
  readonly model: string;
  readonly rows: readonly EncodedRow[];
  /** Whether a text was blank; its row is then the same as that of every blank text. */
  readonly empty: readonly boolean[];
}

/** Longest time for one reply, in ms: longer than the server's own deadline. */
const REPLY_MS_MAX = 300_000;

/** UTF-8 takes at most three bytes for one UTF-16 unit. */
const BYTES_PER_UNIT = 3;
/** A string's type and its length in four bytes. */
const STRING_HEAD = 5;
/** More than what stands in a request beside its texts. */
const REST_BYTES = 256;

/** Blocks of requests that are answered, for the next ones. */
const SPARE_BLOCKS_MAX = 16;

/**
 * Sends the texts of a job to `/encode`. The client's own call sends JSON, as every caller can; a
 * job sends msgpack: text goes into it in one pass, and is read by the server in one. Together that
 * saved 2 µs for a text of 1 kB, of some 60 that a text costs both.
 */
export class EncodeRequests {
  readonly #options: RequestOptions;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #encoder = new TextEncoder();
  readonly #spare: Uint8Array<ArrayBuffer>[] = [];

  constructor(options: RequestOptions) {
    this.#options = options;
    const { apiKey } = options;
    this.#headers = {
      'content-type': 'application/msgpack',
      accept: 'application/msgpack',
      // Texts of a job wait for those of people.
      [PRIORITY_HEADER]: 'background',
      ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }),
    };
  }

  /**
   * Sends one request, once.
   *
   * @returns rows, owned by the caller; dense ones are views of one block.
   * @throws APIEncoderError, or the signal's reason.
   */
  async send(
    to: { url: string; fetch: Fetch; signal: AbortSignal },
    texts: readonly string[],
  ): Promise<EncodedTexts> {
    const { clock, heads } = this.#options;
    const block = this.#blockFor(texts);
    const length = this.#write(block, texts);
    const path = '/encode';
    const request = { method: 'POST', path, headers: this.#headers } as const;
    const body = await tryOnce({
      clock,
      signal: to.signal,
      fetch: to.fetch,
      url: to.url + path,
      timeoutMs: REPLY_MS_MAX,
      request: { ...request, body: block.subarray(0, length) },
    }).catch((error: unknown) => {
      const isSingle = texts.length === 1;
      throw withCallersField(error, { field: 'query', start: 0, isSingle });
    });
    // One that failed may still be read by whoever sends it.
    if (this.#spare.length < SPARE_BLOCKS_MAX) this.#spare.push(block);
    const encoded = textsOf(readEncodeReply(body, { textCount: texts.length, heads }), body);
    const { buffer } = body;
    // Of rows that were copied out of it nothing is left in it, and the collector does not see its
    // size: multi-vectors of 1,024 dimensions held 364 MB.
    if (buffer instanceof ArrayBuffer && encoded.rows[0]?.dense?.buffer !== buffer) {
      buffer.transfer(0);
    }
    return encoded;
  }

  #blockFor(texts: readonly string[]): Uint8Array<ArrayBuffer> {
    let bytes = REST_BYTES;
    for (const text of texts) bytes += STRING_HEAD + text.length * BYTES_PER_UNIT;
    const spare = this.#spare.pop();
    return spare !== undefined && spare.length >= bytes ? spare : new Uint8Array(bytes);
  }

  /** @returns how many bytes of the block the request takes. */
  #write(block: Uint8Array, texts: readonly string[]): number {
    const { heads, inputType, truncate } = this.#options;
    const view = new DataView(block.buffer);
    const text = (value: string, at: number): number => {
      const { written } = this.#encoder.encodeInto(value, block.subarray(at + STRING_HEAD));
      block[at] = 0xdb;
      view.setUint32(at + 1, written);
      return at + STRING_HEAD + written;
    };
    block[0] = 0x84;
    let at = text('truncate', 1);
    block[at] = truncate ? 0xc3 : 0xc2;
    at = text(inputType, text('input_type', at + 1));
    at = text('outputs', at);
    block[at++] = 0x90 | heads.length;
    for (const head of heads) at = text(head, at);
    at = text('query', at);
    block[at] = 0xdd;
    view.setUint32(at + 1, texts.length);
    at += STRING_HEAD;
    for (const value of texts) at = text(value, at);
    return at;
  }
}

/** @param body what the reply was read of; given up. */
function textsOf(reply: EncodeReply, body: Uint8Array): EncodedTexts {
  const { model, dimension, tokenCounts, truncated, empty, dense, sparse, multiVectors } = reply;
  const matrix = dense === undefined ? undefined : alignedFloats(dense, body);
  const rows = tokenCounts.map((tokenCount, index) => {
    const row: { -readonly [Key in keyof EncodedRow]: EncodedRow[Key] } = {
      tokenCount,
      truncated: truncated[index] === true,
    };
    if (matrix !== undefined) {
      row.dense = matrix.subarray(index * dimension, (index + 1) * dimension);
    }
    const sparseRow = sparse?.[index];
    if (sparseRow !== undefined) row.sparse = sparseRow;
    const multiVector = multiVectors?.[index];
    if (multiVector !== undefined) row.multiVector = multiVector;
    return row;
  });
  return { model, rows, empty };
}

/**
 * Floats that may start at any byte. Where the body is little else, they are moved by up to three
 * bytes where they lie: fresh memory for a copy costs five times as much. What is written over is
 * the length in front of them.
 */
function alignedFloats(bytes: Uint8Array, body: Uint8Array): Float32Array {
  const { buffer, byteOffset, byteLength } = bytes;
  const isMost = byteLength * 2 > body.byteLength;
  if (!isMost) return new Float32Array(bytes.slice().buffer);
  const start = byteOffset & ~3;
  if (start !== byteOffset) {
    new Uint8Array(buffer).copyWithin(start, byteOffset, byteOffset + byteLength);
  }
  return new Float32Array(buffer, start, byteLength >> 2);
}
