import { invariant } from '../base/invariant.ts';
import type { EncodedReply, EncodeReply } from './reply-content.ts';
import type { ReplyDtype } from './reply-format.ts';
import { blockOf, bytesOfBlock, copyBlock } from './row-bytes.ts';

/**
 * Headers list facts for up to this many texts. A count has at most 4 digits for 8,192 tokens, 5
 * bytes with its comma, so that the list stays under 2.5 kB of the 16 kB that Node's clients take
 * for all headers.
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
