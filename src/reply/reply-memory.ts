/**
 * The memory that replies are written into. Fresh memory for each would only be faulted in and
 * thrown away: the kernel clears it page by page, and a row of 1,024 values is a page.
 */

/**
 * A body up to this size is lent until the next reply of the thread is encoded. The runtime sends
 * such a body with its head at once; a larger one that an asynchronous handler returns as bytes has
 * each piece of its head sent by a call of its own (`findings/bun-sends-heads-in-pieces.sh`).
 */
export const SMALL_BODY_BYTES_MAX = 15_360;

/**
 * Beyond this the head's time is a hundredth of the reply's, and a stream that waits for its reader
 * takes more memory than bytes do.
 */
const STREAMED_BYTES_MAX = 1 << 22;

/** Whether a body is sent as a stream, so that it waits for the runtime in memory of its own. */
export function isStreamed({ length }: Uint8Array): boolean {
  return length > SMALL_BODY_BYTES_MAX && length <= STREAMED_BYTES_MAX;
}

/**
 * Memory up to this size is kept for the replies to come: 4,000 rows of 1,024 values, or 1,000 in
 * JSON, counted at their longest.
 */
export const KEPT_BYTES_MAX = 1 << 24;
/** The least that is taken. */
export const FIRST_BYTES = 1 << 16;

/** Of nobody; the one given back last stands last. */
const kept: ArrayBuffer[] = [];
let keptBytes = 0;

/** Memory of replies that wait to be sent. That of a writer is not: it goes on with it. */
const taken = new WeakSet<ArrayBufferLike>();

/** Memory to write a reply into, its taker's: it comes back if `ownReplyMemory` is told of it. */
export function takeReplyMemory(bytes: number): ArrayBuffer {
  const at = kept.findLastIndex(({ byteLength }) => byteLength >= bytes);
  const [found] = at < 0 ? [] : kept.splice(at, 1);
  if (found !== undefined) keptBytes -= found.byteLength;
  return found ?? new ArrayBuffer(lengthFor(bytes));
}

/** A power of two, so that the next reply of about this size fits; exact where none is kept. */
function lengthFor(bytes: number): number {
  if (bytes > KEPT_BYTES_MAX) return bytes;
  return 2 ** Math.ceil(Math.log2(Math.max(FIRST_BYTES, bytes)));
}

/** The memory of a large body is its holder's from now on, until `giveBackReplyMemory`. */
export function ownReplyMemory({ buffer }: Uint8Array<ArrayBuffer>): void {
  taken.add(buffer);
}

/**
 * Nobody reads a large body any more. Does nothing for other memory, and for what was given back.
 * What is never given back is collected.
 */
export function giveBackReplyMemory({ buffer }: Uint8Array<ArrayBuffer>): void {
  if (!taken.delete(buffer) || buffer.byteLength > KEPT_BYTES_MAX) return;
  kept.push(buffer);
  keptBytes += buffer.byteLength;
  // The oldest goes: sizes change with what callers send.
  while (keptBytes > KEPT_BYTES_MAX) keptBytes -= kept.shift()?.byteLength ?? 0;
}

const small = new ArrayBuffer(SMALL_BODY_BYTES_MAX + 4);

/**
 * Room for one reply: lent until the next one of this thread is encoded where it is small, and its
 * holder's otherwise.
 *
 * @param blockAt where the first block of numbers starts; it is placed at a multiple of four.
 */
export function lendReplyBytes(bytes: number, blockAt: number): Uint8Array<ArrayBuffer> {
  const shift = -blockAt & 3;
  if (bytes <= SMALL_BODY_BYTES_MAX) return new Uint8Array(small, shift, bytes);
  const body = new Uint8Array(takeReplyMemory(bytes + shift), shift, bytes);
  ownReplyMemory(body);
  return body;
}
