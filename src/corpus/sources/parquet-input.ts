import {
  type AsyncBuffer,
  type ParquetParsers,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
  type SchemaElement,
  type SchemaTree,
} from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { wordsOf } from '../corpus-error.ts';
import { type ByteInput, unreadable } from './byte-input.ts';
import { parseExactJson } from './exact-json.ts';
import type { SourceInput } from './source.ts';

/** Rows that are decoded at a time, so that a row group of a million lies nowhere whole. */
const ROWS_PER_READ = 4096;

/**
 * A Parquet file. Positions are rows, and it reads from any without those before. Only the columns
 * that are asked for are decoded.
 *
 * @param options.columns names at the top level; undefined reads all.
 */
export function parquetInput(
  input: ByteInput,
  options: { columns: readonly string[] | undefined },
): SourceInput {
  return {
    name: input.name,
    look: () => input.look(),
    isSeekable: true,
    async *read(from = 0) {
      const byteLength = await input.length();
      if (byteLength === 0) throw unreadable(input, new Error('it is empty'));
      const file = bufferOf(input, byteLength);
      try {
        const metadata = await parquetMetadataAsync(file);
        const schema = parquetSchema(metadata);
        // One within another column may have the same name.
        const here = new Set(schema.children.map(({ element }) => element.name));
        const columns = options.columns?.filter((name) => here.has(name));
        // A row is a group of all columns.
        const exact = exactOf(schema);
        let groupStart = 0;
        for (const group of metadata.row_groups) {
          const groupEnd = groupStart + Number(group.num_rows);
          let rowStart = Math.max(groupStart, Number(from));
          while (rowStart < groupEnd) {
            const rowEnd = Math.min(groupEnd, rowStart + ROWS_PER_READ);
            const rows = await parquetReadObjects({
              file,
              metadata,
              compressors,
              parsers: EXACT_PARSERS,
              rowStart,
              rowEnd,
              ...(columns === undefined ? {} : { columns }),
            });
            const first = rowStart;
            if (exact !== undefined) for (const fields of rows) exact(fields);
            yield rows.map((fields, index) => ({ position: first + index, fields }));
            rowStart = rowEnd;
          }
          groupStart = groupEnd;
        }
      } catch (error) {
        const words = wordsOf(error);
        const isForeign = /PAR1|thrift/.test(words);
        const why = `${words}; it may be cut off, or encrypted`;
        throw unreadable(input, isForeign ? new Error(why) : error);
      }
    },
  };
}

const utf8Decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** What a column holds to its last digit, where the library's own values have lost some. */
const EXACT_PARSERS = {
  timestampFromMilliseconds: (value: bigint | number) => timeOf(BigInt(value), 3),
  timestampFromMicroseconds: (value: bigint | number) => timeOf(BigInt(value), 6),
  timestampFromNanoseconds: (value: bigint | number) => timeOf(BigInt(value), 9),
  dateFromDays: (days: number) => isoOf(days * 86_400_000)?.replace(/T.*/, '') ?? String(days),
  jsonFromBytes: (bytes: Uint8Array | undefined) => {
    if (bytes === undefined) return undefined;
    try {
      return parseExactJson(utf8Decoder.decode(bytes));
    } catch {
      return new OpaqueBytes(bytes);
    }
  },
  // Bytes that are no text stay bytes: other letters would make one of two ids.
  stringFromBytes: (bytes: Uint8Array | undefined) => {
    if (bytes === undefined) return undefined;
    try {
      return utf8Decoder.decode(bytes);
    } catch {
      return new OpaqueBytes(bytes);
    }
  },
} as unknown as ParquetParsers;

/** Bytes that are no text. Within other values they are written as a column of them is. */
class OpaqueBytes extends Uint8Array {
  toJSON(): string {
    return `\\x${Buffer.from(this).toString('hex')}`;
  }
}

/** @param ms since 1970. @returns undefined past the years of a date, as of `infinity`. */
function isoOf(ms: number): string | undefined {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? undefined : date.toISOString();
}

/**
 * @param ticks since 1970.
 * @param digits of a second.
 * @returns ISO 8601, without needless zeros; the ticks themselves where there is no such year.
 */
function timeOf(ticks: bigint, digits: number): string {
  const perSecond = 10n ** BigInt(digits);
  const fraction = ((ticks % perSecond) + perSecond) % perSecond;
  const seconds = Number((ticks - fraction) / perSecond);
  const whole = isoOf(seconds * 1000)?.slice(0, -5);
  if (whole === undefined) return String(ticks);
  const rest = String(fraction).padStart(digits, '0').replace(/0+$/, '');
  return `${whole}${rest === '' ? '' : `.${rest}`}Z`;
}

/** Digits of which a double keeps all. */
const DOUBLE_DIGITS = 15;

/** Makes a value what it is to its last digit. */
type ExactOf = (value: unknown) => unknown;

/**
 * For columns whose values are made here: decimals of many digits, which the library would make
 * doubles, and times of no time zone, which it does not tell from those of UTC; by themselves or
 * within others. Keys of a map stay as they are.
 *
 * @param column changed: such a decimal is read as it lies in the file.
 */
function exactOf({ element, children }: SchemaTree): ExactOf | undefined {
  const [only] = children;
  if (only === undefined) return exactLeaf(element);
  // As the library tells them from groups.
  const isRepeated = children.length === 1 && only.element.repetition_type === 'REPEATED';
  if (isRepeated && element.converted_type === 'LIST' && only.children.length < 2) {
    return exactOf(only.children[0] ?? only);
  }
  const isMap = isRepeated && element.converted_type === 'MAP' && only.children.length === 2;
  if (isMap) {
    const exact = exactOf(only.children[1] as SchemaTree);
    return exact && eachOf((map) => eachField(map, Object.keys(map as object), exact));
  }
  const exacts = children.flatMap((child) => {
    const exact = exactOf(child);
    return exact === undefined ? [] : [{ names: [child.element.name], exact }];
  });
  if (exacts.length === 0) return undefined;
  return eachOf((group) => {
    for (const { names, exact } of exacts) eachField(group, names, exact);
    return group;
  });
}

function exactLeaf(element: SchemaElement): ExactOf | undefined {
  const { converted_type, logical_type, precision = 0, scale = 0, type } = element;
  const isRaw = type === 'INT64' || type === 'FIXED_LEN_BYTE_ARRAY';
  if (converted_type === 'DECIMAL' && precision > DOUBLE_DIGITS && isRaw) {
    delete element.converted_type;
    delete element.logical_type;
    return eachOf((value) => decimalOf(value, scale));
  }
  if (logical_type?.type === 'TIMESTAMP' && !logical_type.isAdjustedToUTC) {
    return eachOf((value) => String(value).replace(/Z$/, ''));
  }
  if (type === 'FIXED_LEN_BYTE_ARRAY') {
    return eachOf((value) => (value instanceof Uint8Array ? new OpaqueBytes(value) : value));
  }
  return undefined;
}

/** The same for each item of lists, however deep; null stays null. */
function eachOf(exact: ExactOf): ExactOf {
  const each: ExactOf = (value) => {
    if (value === null || value === undefined) return value;
    return Array.isArray(value) ? value.map(each) : exact(value);
  };
  return each;
}

/** A column that nobody asks for stays away. */
function eachField(object: unknown, names: readonly string[], exact: ExactOf): unknown {
  const fields = object as Record<string, unknown>;
  for (const name of names) if (fields[name] !== undefined) fields[name] = exact(fields[name]);
  return fields;
}

/** @returns an integer where nothing stands after the point, otherwise all digits as words. */
function decimalOf(value: unknown, scale: number): unknown {
  let whole: bigint;
  if (value instanceof Uint8Array) {
    const unsigned = BigInt(`0x${Buffer.from(value).toString('hex') || '0'}`);
    whole = BigInt.asIntN(value.length * 8, unsigned);
  } else whole = BigInt(value as bigint);
  if (scale === 0) return whole;
  const digits = String(whole < 0n ? -whole : whole).padStart(scale + 1, '0');
  return `${whole < 0n ? '-' : ''}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
}

function bufferOf(input: ByteInput, byteLength: number): AsyncBuffer {
  return {
    byteLength,
    async slice(start, end = byteLength) {
      // Counted from the end, as with arrays.
      const from = start < 0 ? Math.max(0, byteLength + start) : start;
      const pieces: Uint8Array[] = [];
      if (end > from) for await (const piece of input.open(from, end)) pieces.push(piece);
      const whole = Buffer.concat(pieces);
      return whole.buffer.slice(whole.byteOffset, whole.byteOffset + whole.length) as ArrayBuffer;
    },
  };
}
