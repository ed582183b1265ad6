import type { Cell, ParquetColumn, Physical } from './columns.ts';
import { writeVarint } from './thrift.ts';

const encoder = new TextEncoder();

/** Bytes of a value that has always as many; text counts by its length, truth by bits. */
const WIDTH: Readonly<Record<Physical, number>> = {
  boolean: 1,
  int32: 4,
  int64: 8,
  float: 4,
  double: 8,
  text: 0,
  float16: 2,
};

/**
 * One column of a row group while rows come in: levels as runs, values as the page has them.
 *
 * Each value has a definition level (how much of its path is there: the most where it is a value)
 * and, in lists, a repetition level (at which list it goes on: 0 begins a row). Vectors are long
 * runs of both, so the runs cost nothing beside the values.
 */
export class ColumnBuffer {
  readonly column: ParquetColumn;
  readonly #definitions = new LevelRuns();
  readonly #repetitions = new LevelRuns();
  readonly #pieces: Uint8Array[] = [];
  readonly #truths: boolean[] = [];
  #bytes = 0;
  #levelCount = 0;

  constructor(column: ParquetColumn) {
    this.column = column;
  }

  /** Values and their bytes so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Values, nulls and empty lists counted: what the page's header says. */
  get levelCount(): number {
    return this.#levelCount;
  }

  add(cell: Cell | undefined): void {
    const { depth } = this.column;
    const most = maxDefinition(this.column);
    if (cell === undefined) {
      this.#level(0, 0, 1);
      return;
    }
    if (depth === 0) this.#level(most, 0, 1);
    else if (depth === 1) this.#list(cell.values.length, { first: 0, most, empty: 1 });
    else {
      // An outer list that is there but has nothing in it.
      if (cell.lengths?.length === 0) this.#level(1, 0, 1);
      for (const [index, length] of (cell.lengths ?? []).entries()) {
        this.#list(length, { first: index === 0 ? 0 : 1, most, empty: 2 });
      }
    }
    this.#values(cell.values);
  }

  /** The body of a data page. Owned by the caller. */
  page(): Uint8Array[] {
    const pieces: Uint8Array[] = [];
    if (this.column.depth > 0) {
      pieces.push(...this.#repetitions.encode(bitsOf(this.column.depth)));
    }
    pieces.push(...this.#definitions.encode(bitsOf(maxDefinition(this.column))));
    if (this.column.physical === 'boolean') pieces.push(packBits(this.#truths));
    return [...pieces, ...this.#pieces];
  }

  #list(length: number, levels: { first: number; most: number; empty: number }): void {
    this.#level(length === 0 ? levels.empty : levels.most, levels.first, 1);
    if (length > 1) this.#level(levels.most, this.column.depth, length - 1);
  }

  #level(definition: number, repetition: number, count: number): void {
    this.#definitions.add(definition, count);
    this.#repetitions.add(repetition, count);
    this.#levelCount += count;
  }

  #values(values: ArrayLike<unknown>): void {
    const { physical } = this.column;
    if (physical === 'boolean') {
      this.#truths.push(values[0] === true);
      this.#bytes += 1;
      return;
    }
    const piece = ArrayBuffer.isView(values)
      ? bytesOfView(values)
      : plainBytes(physical, values as readonly unknown[]);
    this.#pieces.push(piece);
    this.#bytes += piece.byteLength;
  }
}

/** The definition level of a value that is there: each optional or repeated step counts. */
export function maxDefinition({ depth }: ParquetColumn): number {
  return depth + 1;
}

/** Runs of equal levels. */
class LevelRuns {
  readonly #levels: number[] = [];
  readonly #counts: number[] = [];

  add(level: number, count: number): void {
    const last = this.#levels.length - 1;
    if (this.#levels[last] === level) this.#counts[last] = (this.#counts[last] ?? 0) + count;
    else {
      this.#levels.push(level);
      this.#counts.push(count);
    }
  }

  /** The RLE hybrid, runs alone, after its length in four bytes. */
  encode(bitCount: number): Uint8Array[] {
    const bytes: number[] = [];
    for (const [index, level] of this.#levels.entries()) {
      writeVarint(bytes, (this.#counts[index] ?? 0) * 2);
      for (let bit = 0; bit < bitCount; bit += 8) bytes.push((level >> bit) & 0xff);
    }
    const length = new Uint8Array(4);
    new DataView(length.buffer).setUint32(0, bytes.length, true);
    return [length, Uint8Array.from(bytes)];
  }
}

function bitsOf(level: number): number {
  return 32 - Math.clz32(level);
}

/** A copy: rows are views of replies, which must not live as long as a row group. */
function bytesOfView(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice();
}

function plainBytes(physical: Physical, values: readonly unknown[]): Uint8Array {
  if (physical === 'text') {
    const text = encoder.encode(String(values[0]));
    const bytes = new Uint8Array(text.length + 4);
    new DataView(bytes.buffer).setUint32(0, text.length, true);
    bytes.set(text, 4);
    return bytes;
  }
  const bytes = new Uint8Array(WIDTH[physical]);
  const view = new DataView(bytes.buffer);
  if (physical === 'int64') view.setBigInt64(0, BigInt(values[0] as bigint), true);
  else if (physical === 'double') view.setFloat64(0, Number(values[0]), true);
  else view.setInt32(0, Number(values[0]), true);
  return bytes;
}

function packBits(truths: readonly boolean[]): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(truths.length / 8));
  for (const [index, truth] of truths.entries()) {
    if (truth) bytes[index >> 3] = (bytes[index >> 3] ?? 0) | (1 << (index & 7));
  }
  return bytes;
}
