import { ByteWriter } from '../../reply/byte-writer.ts';
import { float16Of } from '../../reply/row-bytes.ts';
import type { PartFormat } from './part-format.ts';
import type { OutputRow, OutputSchema } from './sink.ts';

/**
 * Result lines of OpenAI's batches for `/v1/embeddings`, in the order of the input. Their ids come
 * of the lines', so that the same job has the same. Own file because its shape is another's.
 */
export const OPENAI_BATCH_FORMAT: PartFormat = {
  name: 'openai-batch',
  endings: ['.jsonl'],
  open([file], schema) {
    const writer = new ByteWriter();
    return {
      async write(rows) {
        for (const row of rows) writeLine(writer, row, schema);
        await file?.append(writer.take());
      },
      finish: async () => undefined,
    };
  },
};

function writeLine(writer: ByteWriter, row: OutputRow, schema: OutputSchema): void {
  const { id, encoded, error } = row;
  const key = Bun.hash.xxHash64(String(id)).toString(36);
  writer.ascii(`{"id":"batch_req_${key}","custom_id":`);
  writer.json(typeof id === 'bigint' ? String(id) : id);
  if (encoded?.dense === undefined) {
    const [code = '', message = ''] = error?.split(/: (.*)/s) ?? [];
    writer.ascii(',"response":null,"error":');
    writer.json({ code, message });
  } else {
    const { dense, tokenCount } = encoded;
    writer.ascii(`,"response":{"status_code":200,"request_id":"${key}","body":{"object":"list",`);
    writer.ascii('"data":[{"object":"embedding","index":0,"embedding":');
    writer.floats(schema.dtype === 'float16' ? new Float32Array(float16Of(dense)) : dense);
    writer.ascii('}],"model":');
    writer.json(schema.model);
    writer.ascii(`,"usage":{"prompt_tokens":${tokenCount},"total_tokens":${tokenCount}}}}`);
    writer.ascii(',"error":null');
  }
  writer.ascii('}\n');
}
