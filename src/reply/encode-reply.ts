import { ServerError } from '../base/errors.ts';
import { invariant } from '../base/invariant.ts';
import { encodeJsonReply } from './encode-json.ts';
import { encodeMsgpackReply } from './encode-msgpack.ts';
import type { EncodedReply, EncodeReply } from './reply-content.ts';
import type { ReplyDtype, ReplyFormat } from './reply-format.ts';
import { blockOf, bytesOfBlock, copyBlock } from './row-bytes.ts';

/**
 * Turns a reply to bytes. Checks that the parts fit one another, as the last stage before the
 * socket.
 *
 * @param reply borrowed until this returns.
 * @returns owned by the caller.
 * @throws ServerError `EMB_ACCEPT_UNSUPPORTED` when the format cannot carry a head;
 * `checkFormatCarries` says so earlier.
 */
export function encodeReply(reply: EncodeReply, format: ReplyFormat): EncodedReply {
  checkReply(reply);
  checkFormatCarries(format, {
    dense: reply.rows !== undefined,
    sparse: reply.sparse !== undefined,
    multiVectors: reply.multiVectors !== undefined,
  });
  switch (format.kind) {
    case 'json':
      return encodeJsonReply(reply, format.encoding);
    case 'msgpack':
      return encodeMsgpackReply(reply, format);
    case 'raw':
      return encodeRawReply(reply, format.dtype);
  }
}

/**
 * Raw bytes carry the dense rows and nothing else. Called before the work, so that nothing is
 * computed that cannot be sent.
 *
 * @throws ServerError `EMB_ACCEPT_UNSUPPORTED`.
 */
export function checkFormatCarries(
  format: ReplyFormat,
  heads: { readonly dense: boolean; readonly sparse: boolean; readonly multiVectors: boolean },
): void {
  if (format.kind !== 'raw') return;
  if (heads.dense && !heads.sparse && !heads.multiVectors) return;
  throw new ServerError(
    'EMB_ACCEPT_UNSUPPORTED',
    'accept: application/octet-stream carries dense vectors only; for other heads accept ' +
      'application/msgpack or application/json.',
    { field: 'accept', value: 'application/octet-stream' },
  );
}

/**
 * The last place where a row that went to the wrong text shows, as a count or length that does not
 * fit.
 */
function checkReply(reply: EncodeReply): void {
  const { rows, tokenCounts, truncated, sparse, multiVectors, dimension } = reply;
  const textCount = tokenCounts.length;
  invariant(!reply.single || textCount === 1, 'A single reply is about one text.');
  invariant(truncated.length === textCount, 'Each text has a truncated flag.');
  if (rows !== undefined) {
    invariant(rows.length === textCount, 'Each text has a row.');
    for (const row of rows) {
      invariant(row.length === dimension, 'A row is as long as the dimension.');
    }
  }
  if (sparse !== undefined) {
    invariant(sparse.length === textCount, 'Each text has its sparse weights.');
    for (const { indices, values, tokens } of sparse) {
      invariant(indices.length === values.length, 'Each sparse index has a weight.');
      const isNamed = tokens === undefined || tokens.length === indices.length;
      invariant(isNamed, 'Each sparse index has its piece.');
    }
  }
  if (multiVectors !== undefined) {
    invariant(multiVectors.length === textCount, 'Each text has its multi-vector.');
    for (const { tokenCount, data } of multiVectors) {
      invariant(data.length === tokenCount * dimension, 'A multi-vector has a row for each token.');
    }
  }
}

/**
 * Headers list counts and flags for up to this many texts. A count of at most 8,192 tokens takes 5
 * bytes with its comma, and 512 × 5 = 2.5 kB. Node's clients take 16 kB for all headers.
 */
const LISTED_TEXTS_MAX = 512;

/**
 * The dense rows alone, little-endian, row after row; what describes them is in headers:
 * `x-embedding-shape: texts,dimension`, `x-embedding-dtype`, `x-model`, and, for up to 512 texts,
 * `x-tokens: 7,12` and `x-truncated: 0,1` with one element a text. For more texts both lists are
 * left out, never cut.
 */
export function encodeRawReply(reply: EncodeReply, dtype: ReplyDtype): EncodedReply {
  invariant(reply.rows !== undefined, 'A raw reply needs dense rows.');
  const block = blockOf(reply.rows, dtype);
  const body = new Uint8Array(bytesOfBlock(block));
  copyBlock(body, 0, block);
  const headers: Record<string, string> = {
    'x-embedding-shape': `${reply.rows.length},${reply.dimension}`,
    'x-embedding-dtype': dtype,
    'x-model': headerTextOf(reply.model),
  };
  if (reply.rows.length <= LISTED_TEXTS_MAX) {
    headers['x-tokens'] = reply.tokenCounts.join(',');
    headers['x-truncated'] = reply.truncated.map((flag) => (flag ? '1' : '0')).join(',');
  }
  return { body, contentType: 'application/octet-stream', headers };
}

/**
 * A header carries printable ASCII only; anything else in a model's name is percent-encoded, as is
 * `%` itself.
 */
function headerTextOf(text: string): string {
  return text.replace(/[^ -$&-~]+/gu, (part) => encodeURIComponent(part.toWellFormed()));
}
