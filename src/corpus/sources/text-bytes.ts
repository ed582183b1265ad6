import { type ByteInput, type Compression, unpackedBytes, unreadable } from './byte-input.ts';

/** What to do with a file in an older encoding. */
export const UTF8_ADVICE = 'convert it first, for instance: iconv -f windows-1251 -t utf-8';

const UTF16 = 'UTF-16; make it UTF-8 first: iconv -f utf-16 -t utf-8';

/** How files begin that are no text in UTF-8, in latin1, and what they are. */
const FOREIGN: readonly (readonly [start: string, what: string])[] = [
  ['\xff\xfe', UTF16],
  ['\xfe\xff', UTF16],
  ['\x1f\x8b', 'packed by gzip; its name has to end in .gz'],
  ['\x28\xb5\x2f\xfd', 'packed by zstd; its name has to end in .zst'],
  ['\xfd7zXZ\0', 'packed by xz; unpack it first'],
  ['BZh91AY&SY', 'packed by bzip2; unpack it first'],
  ['PK\x03\x04', 'a zip archive or a spreadsheet; unpack it, or save it as CSV in UTF-8'],
  ['PAR1', 'Parquet; its name has to end in .parquet'],
  ['%PDF-', 'a PDF; take the text out of it first'],
];

/** A header of tar, whose mark stands near its end. */
const START_BYTES = 512;
const TAR_MARK_AT = 257;

/** @returns what a file is that begins so, where that is no text in UTF-8. */
export function foreignOf(start: Uint8Array): string | undefined {
  const letters = Buffer.from(start.subarray(0, START_BYTES)).toString('latin1');
  if (letters.startsWith('ustar', TAR_MARK_AT)) return 'a tar archive; unpack it first';
  return (
    FOREIGN.find(([mark]) => letters.startsWith(mark))?.[1] ?? (isWide(start) ? WIDE : undefined)
  );
}

const WIDE =
  'UTF-16 without its mark; make it UTF-8 first: iconv -f utf-16le -t utf-8, or utf-16be';

/** One byte of so many is zero at the least, in any language: that of a space or a line's end. */
const BYTES_PER_ZERO = 50;
const ZEROS_MIN = 2;

/**
 * Whether it looks like UTF-16 that has no mark. All of it may be UTF-8 as well, and letters would
 * be encoded that nobody wrote. Zeros stand at even places or at odd ones; a crash leaves both.
 */
function isWide(start: Uint8Array): boolean {
  const zeros = [0, 0];
  const length = Math.min(start.length, START_BYTES);
  for (let at = 0; at < length; at++) if (start[at] === 0) zeros[at % 2] = (zeros[at % 2] ?? 0) + 1;
  const [even = 0, odd = 0] = zeros;
  const count = even + odd;
  return (even === 0 || odd === 0) && count >= ZEROS_MIN && count * BYTES_PER_ZERO > length;
}

/**
 * The bytes of a file of text, unpacked. A file of UTF-16 has lines that could be taken for UTF-8,
 * and letters that nobody wrote would be encoded.
 *
 * @throws CorpusError CORPUS_SOURCE_INVALID that says what the file is instead.
 */
export async function* textBytes(
  input: ByteInput,
  compression: Compression,
): AsyncGenerator<Uint8Array, void, undefined> {
  let start: Uint8Array = new Uint8Array();
  let isBegun = false;
  for await (const piece of unpackedBytes(input, compression)) {
    if (isBegun) {
      yield piece;
      continue;
    }
    start = start.length === 0 ? piece : Buffer.concat([start, piece]);
    if (start.length < START_BYTES) continue;
    isBegun = true;
    yield* checked(input, start);
  }
  if (!isBegun && start.length > 0) yield* checked(input, start);
}

function* checked(input: ByteInput, start: Uint8Array): Generator<Uint8Array> {
  const what = foreignOf(start);
  if (what !== undefined) throw unreadable(input, new Error(`it is ${what}`));
  yield start;
}

/**
 * The first line, and all bytes without the mark in front.
 *
 * @param startBytes how many bytes `start` has at least, where there are so many.
 */
export async function withHeader(
  all: AsyncGenerator<Uint8Array, void, undefined>,
  startBytes = 0,
): Promise<{
  header: string;
  /** Whether a line feed ends it. */
  hasFeed: boolean;
  /** What was read to find it: a letter for each byte. */
  start: string;
  /** Whether `start` is all there is. */
  isWhole: boolean;
  bytes: AsyncGenerator<Uint8Array, void, undefined>;
}> {
  let start = Buffer.alloc(0);
  let isWhole = false;
  const isShort = (): boolean => !start.includes(0x0a) && start.length < HEADER_BYTES_MAX;
  while (start.length < startBytes || isShort()) {
    const { value, done } = await all.next();
    isWhole = done === true;
    if (done === true) break;
    start = Buffer.concat([start, value]);
  }
  const isMarked = start[0] === 0xef && start[1] === 0xbb && start[2] === 0xbf;
  const rest = isMarked ? start.subarray(3) : start;
  const end = rest.indexOf(0x0a);
  const bytes = async function* (): AsyncGenerator<Uint8Array, void, undefined> {
    yield rest;
    yield* all;
  };
  const letters = rest.toString('latin1');
  const header = end < 0 ? letters : letters.slice(0, end);
  return { header, hasFeed: end >= 0, start: letters, isWhole, bytes: bytes() };
}

/** A first line that is longer names no fields. */
const HEADER_BYTES_MAX = 1 << 20;
