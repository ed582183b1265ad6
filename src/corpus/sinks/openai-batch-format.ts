import { ERRORS } from '../../base/errors.ts';
import { ByteWriter } from '../../reply/encode-reply.ts';
import { float16Of } from '../../reply/row-bytes.ts';
import type { PartFormat } from './part-format.ts';
import type { OutputRow, OutputSchema } from './sink.ts';

/**
 * Result lines of OpenAI's batches for `/v1/embeddings`, in the order of the input: one for each
 * request, whose inputs may be several. Their ids come of the lines', so that the same job has the
 * same. Own file because its shape is another's.
 */
export const OPENAI_BATCH_FORMAT: PartFormat = {
  name: 'openai-batch',
  endings: ['.jsonl'],
  open([file], schema) {
    const writer = new ByteWriter();
    /** Rows of the request whose last text has not come yet. */
    let request: OutputRow[] = [];
    return {
      async write(rows) {
        for (const row of rows) {
          request.push(row);
          if (request.length < (row.group?.count ?? 1)) continue;
          writeLine(writer, request, schema);
          request = [];
        }
        request = request.map(withOwnVector);
        await file?.append(writer.take());
      },
      finish: async () => undefined,
    };
  },
};

/** A row that waits for the others of its request outlives what it came in. */
function withOwnVector(row: OutputRow): OutputRow {
  const { encoded } = row;
  if (encoded?.dense === undefined) return row;
  return { ...row, encoded: { ...encoded, dense: encoded.dense.slice() } };
}

function writeLine(writer: ByteWriter, rows: readonly OutputRow[], schema: OutputSchema): void {
  const id = rows[0]?.id ?? null;
  const key = Bun.hash.xxHash64(String(id)).toString(36);
  writer.ascii(`{"id":"batch_req_${key}","custom_id":`);
  writer.json(typeof id === 'bigint' ? String(id) : id);
  // As with OpenAI, one bad input fails its request.
  const failed = rows.findIndex(({ error }) => error !== undefined);
  if (failed >= 0) writeFailure(writer, { key, failed, rows });
  else {
    writer.ascii(`,"response":{"status_code":200,"request_id":"${key}","body":{"object":"list",`);
    writer.ascii('"data":[');
    let tokens = 0;
    for (const [index, { encoded }] of rows.entries()) {
      const dense = encoded?.dense ?? new Float32Array();
      tokens += encoded?.tokenCount ?? 0;
      writer.ascii(`${index > 0 ? ',' : ''}{"object":"embedding","index":${index},"embedding":`);
      writer.floats(schema.dtype === 'float16' ? new Float32Array(float16Of(dense)) : dense);
      writer.ascii('}');
    }
    writer.ascii('],"model":');
    writer.json(schema.model);
    writer.ascii(`,"usage":{"prompt_tokens":${tokens},"total_tokens":${tokens}}}}`);
    writer.ascii(',"error":null');
  }
  writer.ascii('}\n');
}

/**
 * A request that was refused has the reply that it would have had by itself, in its status and
 * `body`; a line that is no request has an `error` and no reply.
 */
function writeFailure(
  writer: ByteWriter,
  { key, failed, rows }: { key: string; failed: number; rows: readonly OutputRow[] },
): void {
  const [code = '', message = ''] = rows[failed]?.error?.split(/: (.*)/s) ?? [];
  if (code === 'EMB_BODY_MALFORMED') {
    writer.ascii(',"response":null,"error":');
    writer.json({ code, message });
    return;
  }
  const status = Object.hasOwn(ERRORS, code) ? ERRORS[code as keyof typeof ERRORS].status : 500;
  const type = status >= 500 ? 'server_error' : 'invalid_request_error';
  const param = rows.length > 1 ? `input[${failed}]` : 'input';
  writer.ascii(`,"response":{"status_code":${status},"request_id":"${key}","body":`);
  writer.json({ error: { message, type, param, code } });
  writer.ascii('},"error":null');
}
