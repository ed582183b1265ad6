import { isUtf8 } from 'node:buffer';
import { CorpusError } from '../corpus-error.ts';

/** A line, without its end, and where it begins. */
export interface Line {
  /** Byte of its first character, counted from the start of the input. */
  readonly start: number;
  /** Undefined where its bytes are no UTF-8. */
  readonly text: string | undefined;
}

/** A line over this many bytes ends the job: memory has to have a bound. */
const LINE_BYTES_MAX = 1 << 26;

const NEWLINE = 0x0a;
const BYTE_ORDER_MARK = '\uFEFF';

/**
 * Cuts bytes into lines, one array for each block that was read. A last line without an end counts;
 * an end without a line after it does not.
 *
 * @param start the byte that `bytes` begins with.
 */
export async function* linesOf(
  bytes: AsyncIterable<Uint8Array>,
  options: { name: string; start: number },
): AsyncGenerator<Line[], void, undefined> {
  let blockStart = options.start;
  let rest = new Uint8Array();
  const lineOf = (block: Uint8Array, from: number, to: number): Line => {
    const end = to > from && block[to - 1] === 0x0d ? to - 1 : to;
    const start = blockStart + from;
    const bytes = Buffer.from(block.buffer, block.byteOffset + from, end - from);
    // Asked first, a decoder that never throws is twice as fast as one that may.
    if (!isUtf8(bytes)) return { start, text: undefined };
    const text = bytes.toString('utf8');
    return { start, text: start === 0 && text.startsWith(BYTE_ORDER_MARK) ? text.slice(1) : text };
  };
  for await (const piece of bytes) {
    const block = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
    const lines: Line[] = [];
    let from = 0;
    for (let end = block.indexOf(NEWLINE); end >= 0; end = block.indexOf(NEWLINE, from)) {
      lines.push(lineOf(block, from, end));
      from = end + 1;
    }
    if (block.length - from > LINE_BYTES_MAX) {
      const message = `${options.name} has a line of over ${LINE_BYTES_MAX} bytes; is it JSON Lines?`;
      throw new CorpusError('CORPUS_SOURCE_INVALID', message);
    }
    if (lines.length > 0) yield lines;
    rest = block.slice(from);
    blockStart += from;
  }
  if (rest.length > 0) yield [lineOf(rest, 0, rest.length)];
}
