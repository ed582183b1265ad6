import { type AsyncBuffer, parquetMetadataAsync, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { type ByteInput, unreadable } from './byte-input.ts';
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
      const file = bufferOf(input, await input.length());
      try {
        const metadata = await parquetMetadataAsync(file);
        const here = new Set(metadata.schema.map(({ name }) => name));
        const columns = options.columns?.filter((name) => here.has(name));
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
              rowStart,
              rowEnd,
              ...(columns === undefined ? {} : { columns }),
            });
            const first = rowStart;
            yield rows.map((fields, index) => ({ position: first + index, fields }));
            rowStart = rowEnd;
          }
          groupStart = groupEnd;
        }
      } catch (error) {
        throw unreadable(input, error);
      }
    },
  };
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
