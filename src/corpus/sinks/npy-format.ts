import { ByteWriter } from '../../reply/encode-reply.ts';
import { float16Of } from '../../reply/row-bytes.ts';
import { writeMetadata } from './jsonl-format.ts';
import type { PartFormat } from './part-format.ts';
import type { OutputSchema } from './sink.ts';

/** Room for the header: a row count of any size fits, and the data is aligned for mmap. */
const HEADER_BYTES = 128;

/**
 * A matrix of the dense rows for `numpy.load`, and beside it the ids, a JSON line for each row. A
 * text that failed has no row in the matrix: its id and error stand in the errors file.
 */
export const NPY_FORMAT: PartFormat = {
  name: 'npy',
  endings: ['.errors.jsonl', '.ids.jsonl', '.npy'],
  open([errors, ids, matrix], schema) {
    const writer = new ByteWriter();
    let rowCount = 0;
    let isBegun = false;
    const begin = async (): Promise<void> => {
      if (!isBegun) await matrix?.append(npyHeader(0, schema));
      isBegun = true;
    };
    return {
      async write(rows) {
        await begin();
        for (const row of rows) {
          const dense = row.encoded?.dense;
          writer.ascii('{');
          writeMetadata(writer, row, schema);
          if (dense === undefined) {
            writer.ascii(',"error":');
            writer.json(row.error);
            writer.ascii('}\n');
            await errors?.append(writer.take());
          } else {
            writer.ascii('}\n');
            await ids?.append(writer.take());
            const values = schema.dtype === 'float16' ? float16Of(dense) : dense;
            await matrix?.append(
              new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
            );
            rowCount++;
          }
        }
      },
      async finish() {
        await begin();
        await matrix?.overwriteStart(npyHeader(rowCount, schema));
      },
    };
  },
};

/** Version 1.0 of the format: magic, version, length, a Python dict, padded. */
function npyHeader(rowCount: number, { dtype, dimension }: OutputSchema): Uint8Array {
  const descr = dtype === 'float16' ? '<f2' : '<f4';
  const dict = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${rowCount}, ${dimension}), }`;
  const header = Buffer.alloc(HEADER_BYTES, 0x20);
  header.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0]);
  header.writeUInt16LE(HEADER_BYTES - 10, 8);
  header.write(dict, 10, 'latin1');
  header[HEADER_BYTES - 1] = 0x0a;
  return header;
}
