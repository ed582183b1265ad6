import type { Cell, ParquetColumn, Physical } from './columns.ts';
import { writeVarint } from './thrift.ts';

const encoder = new TextEncoder();

/** Room of a column that has no values yet, in bytes; it doubles. */
const FIRST_BYTES = 1 << 12;

/**
 * Blocks of parts that are written, for the next one: fresh memory costs as much as the copy into
 * it. Two parts have some ten columns each.
 */
const spareBlocks: Uint8Array<ArrayBuffer>[] = [];
const SPARE_BLOCKS_MAX = 32;

/**
 * One column of a row group while rows come in: levels as runs, values as the page has them.
 *
 * Each value has a definition level (how much of its path is there: the most where it is a value)
 * and, in lists, a repetition level (at which list it goes on: 0 begins a row). Vectors are long
 * runs of both, so the runs cost nothing beside the values.
 */
export class ColumnBuffer {
  readonly column: ParquetColumn;
  #definitions = new LevelRuns();
  #repetitions = new LevelRuns();
  #truths: boolean[] = [];
  /** Kept from group to group. Rows are copied in while they are in the processor's cache. */
  #bytes = spareBlocks.pop() ?? new Uint8Array(FIRST_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;
  #levelCount = 0;

  constructor(column: ParquetColumn) {
    this.column = column;
  }

  /** Values and their bytes so far. */
  get bytes(): number {
    return this.#length;
  }

  /** Values, nulls and empty lists counted: what the page's header says. */
  get levelCount(): number {
    return this.#levelCount;
  }

  /** @param cell copied. */
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

  /** Forgets the values; the room for them stays. */
  clear(): void {
    this.#definitions = new LevelRuns();
    this.#repetitions = new LevelRuns();
    this.#truths = [];
    this.#length = 0;
    this.#levelCount = 0;
  }

  /** Gives its room to the next part's columns; it must not be used any more. */
  release(): void {
    if (spareBlocks.length < SPARE_BLOCKS_MAX) spareBlocks.push(this.#bytes);
    this.#bytes = new Uint8Array();
  }

  /** The body of a data page; borrowed from this until it is cleared. */
  page(): Uint8Array[] {
    const pieces: Uint8Array[] = [];
    if (this.column.depth > 0) {
      pieces.push(...this.#repetitions.encode(bitsOf(this.column.depth)));
    }
    pieces.push(...this.#definitions.encode(bitsOf(maxDefinition(this.column))));
    if (this.column.physical === 'boolean') pieces.push(packBits(this.#truths));
    else pieces.push(this.#bytes.subarray(0, this.#length));
    return pieces;
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
    if (physical === 'boolean') this.#truths.push(values[0] === true);
    else if (ArrayBuffer.isView(values)) {
      const { buffer, byteOffset, byteLength } = values;
      this.#reserve(byteLength);
      this.#bytes.set(new Uint8Array(buffer, byteOffset, byteLength), this.#length);
      this.#length += byteLength;
    } else this.#plain(physical, values[0]);
  }

  #plain(physical: Physical, value: unknown): void {
    if (physical === 'text') {
      const text = String(value);
      // UTF-8 takes at most three bytes for one UTF-16 unit.
      this.#reserve(4 + text.length * 3);
      const { written } = encoder.encodeInto(text, this.#bytes.subarray(this.#length + 4));
      this.#view.setUint32(this.#length, written, true);
      this.#length += 4 + written;
      return;
    }
    this.#reserve(8);
    if (physical === 'int64') this.#view.setBigInt64(this.#length, BigInt(value as bigint), true);
    else if (physical === 'double') this.#view.setFloat64(this.#length, Number(value), true);
    else this.#view.setInt32(this.#length, Number(value), true);
    this.#length += physical === 'int32' ? 4 : 8;
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
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

function packBits(truths: readonly boolean[]): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(truths.length / 8));
  for (const [index, truth] of truths.entries()) {
    if (truth) bytes[index >> 3] = (bytes[index >> 3] ?? 0) | (1 << (index & 7));
  }
  return bytes;
}
