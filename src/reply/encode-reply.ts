import { ServerError } from '../base/errors.ts';
import { invariant } from '../base/invariant.ts';
import { encodeJsonReply } from './encode-json.ts';
import { encodeMsgpackReply } from './encode-msgpack.ts';
import { encodeRawReply } from './encode-raw.ts';
import type { EncodedReply, EncodeReply } from './reply-content.ts';
import type { ReplyFormat } from './reply-format.ts';

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
 * Raw bytes carry the dense rows and nothing else. To be called before the work, so that nothing is
 * computed in vain.
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
 * A row that went to the wrong text would show here last, as a count or a length that does not fit.
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
