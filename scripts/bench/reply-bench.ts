/**
 * Micro-benchmarks of the reply codecs: `bun scripts/bench/reply-bench.ts`. Each task is one reply,
 * or one body; rows have the 1,024 components of BGE-M3, of length one. What `JSON.stringify` takes
 * stands beside our writer, in the same run.
 */
import { pack } from 'msgpackr';
import { Bench } from 'tinybench';
import { negotiateFormat } from '../../src/http/request.ts';
import { decodeJsonBody } from '../../src/reply/decode-json.ts';
import { decodeMsgpackBody } from '../../src/reply/decode-msgpack.ts';
import { encodeReply } from '../../src/reply/encode-reply.ts';
import { FLOAT32_JSON_BYTES_MAX, writeFloat32Json } from '../../src/reply/float32-json.ts';
import type { EncodeReply } from '../../src/reply/reply-content.ts';
import { giveBackReplyMemory } from '../../src/reply/reply-memory.ts';
import { base64OfRow, float16Of } from '../../src/reply/row-bytes.ts';
import { type SeededRandom, seededRandom } from '../../src/testing/seeded-random.ts';
import { faultOfRow } from '../../src/vectors/output.ts';
import { readFlags } from '../flags.ts';

const DIMENSION = 1_024;
const EXPECTED = { dimension: DIMENSION, isNormalized: true };
/** More rows than a branch predictor can learn by heart. */
const ROW_COUNT = 256;
const BATCH_TEXTS = 64;

/** A row whose components are normally distributed, which is how those of a dense embedding lie. */
function unitRow(random: SeededRandom): Float32Array {
  const uniform = () => (random.below(2 ** 31 - 2) + 1) / 2 ** 31;
  const row = Float32Array.from(
    { length: DIMENSION },
    () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
  );
  const norm = Math.hypot(...row);
  return row.map((value) => value / norm);
}

function replyOf(rows: readonly Float32Array[], single: boolean): EncodeReply {
  return {
    model: 'BAAI/bge-m3',
    dimension: DIMENSION,
    single,
    rows,
    tokenCounts: rows.map((_, index) => 7 + (index % 500)),
    truncated: rows.map(() => false),
  };
}

/** Adds the tasks of the reply codecs to a bench. */
export function addReplyTasks(bench: Bench): void {
  const random = seededRandom(1);
  const rows = Array.from({ length: ROW_COUNT }, () => unitRow(random));
  let turn = 0;
  const nextRow = () => rows[turn++ % ROW_COUNT];
  const bytes = new Uint8Array(DIMENSION * FLOAT32_JSON_BYTES_MAX);
  const view = new DataView(bytes.buffer);
  bench
    .add('JSON, one row: JSON.stringify', () => JSON.stringify(Array.from(nextRow())))
    .add('JSON, one row: writeFloat32Json', () => writeFloat32Json(bytes, view, 0, nextRow()));

  const batch = replyOf(rows.slice(0, BATCH_TEXTS), false);
  for (const accept of [
    'application/json',
    'application/json; encoding=base64',
    'application/msgpack',
    'application/msgpack; layout=numpy',
    'application/msgpack; dtype=float16',
    'application/octet-stream',
  ]) {
    const format = negotiateFormat(accept);
    bench
      .add(`reply, 1 text: ${accept}`, () => encodeReply(replyOf([nextRow()], true), format))
      .add(`reply, ${BATCH_TEXTS} texts: ${accept}`, () =>
        giveBackReplyMemory(encodeReply(batch, format).body),
      );
  }

  bench
    .add('float16, one row', () => float16Of(nextRow()))
    .add('float16, one row: by the runtime', () => new Float16Array(DIMENSION).set(nextRow()))
    .add('output guard, one row', () => faultOfRow(nextRow(), EXPECTED))
    .add('base64, one row', () => base64OfRow(nextRow()));

  const query = { query: 'расторжение договора аренды нежилого помещения' };
  const texts = { query: Array.from({ length: BATCH_TEXTS }, () => query.query.repeat(10)) };
  for (const [name, value] of Object.entries({
    '1 query': query,
    [`${BATCH_TEXTS} texts`]: texts,
  })) {
    const json = new TextEncoder().encode(JSON.stringify(value));
    const msgpack = pack(value);
    bench
      .add(`body, ${name}: JSON`, () => decodeJsonBody(json))
      .add(`body, ${name}: msgpack`, () => decodeMsgpackBody(msgpack));
  }

  bench
    .add('accept: application/json', () => negotiateFormat('application/json'))
    .add('accept: parsed', () =>
      negotiateFormat('text/html, application/msgpack;q=0.9, */*;q=0.8'),
    );
}

if (import.meta.main) {
  readFlags(import.meta.path, {});
  const bench = new Bench({ time: 500, warmupTime: 200 });
  addReplyTasks(bench);
  await bench.run();
  console.table(
    bench.tasks.map(({ name, result }) =>
      'latency' in result
        ? {
            task: name,
            'median µs': (result.latency.p50 * 1_000).toFixed(2),
            'mean µs': (result.latency.mean * 1_000).toFixed(2),
            'p99 µs': (result.latency.p99 * 1_000).toFixed(2),
          }
        : { task: name },
    ),
  );
}
