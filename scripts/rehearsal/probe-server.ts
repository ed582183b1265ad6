/**
 * Asks a server for all heads of texts of every length, and where its time goes:
 * `bun scripts/rehearsal/probe-server.ts URL ROWS`. The dense rows are kept in the file ROWS; when
 * it is there already, they must be the same still. Exit status 1 when a reply is not right.
 */
import { existsSync } from 'node:fs';
import { APIEncoder, type EncodedText } from '../../src/client/api-encoder.ts';
import { cosineOf } from '../../src/model/fidelity.ts';
import { benchTexts, type TextLength } from '../bench/bench-texts.ts';
import { textTable } from '../bench/report/text-table.ts';

/** A restart may choose other kernels; another model or a fault is far below. */
const COSINE_MIN = 0.9999;
const LENGTHS: readonly TextLength[] = ['short', 'middle', 'long', 'document'];
const REQUEST_COUNT = 8;
const NORM_TOLERANCE = 1e-3;

interface Probe {
  readonly table: string;
  readonly faults: readonly string[];
  readonly rows: readonly (readonly number[])[];
}

/** @param before dense rows of an earlier probe. */
export async function probeServer(
  url: string,
  before: readonly (readonly number[])[] = [],
): Promise<Probe> {
  const client = new APIEncoder(url, { timeoutMs: 600_000 });
  const faults: string[] = [];
  const rows: number[][] = [];
  const lines: string[][] = [];
  for (const length of LENGTHS) {
    const texts = benchTexts({ length, count: REQUEST_COUNT, seed: 1 });
    const startMs = performance.now();
    const encoded = await client.encodeHeads(texts);
    const takenMs = performance.now() - startMs;
    for (const text of encoded) {
      faults.push(...faultsOf(text).map((fault) => `${length}: ${fault}`));
      rows.push([...(text.dense ?? [])]);
    }
    const tokens = encoded.map(({ tokenCount }) => tokenCount);
    const { dense, sparse, multiVector } = encoded[0] ?? {};
    lines.push([
      length,
      `${Math.min(...tokens)} to ${Math.max(...tokens)}`,
      String(dense?.length ?? '-'),
      String(sparse?.indices.length ?? '-'),
      String(multiVector?.tokenCount ?? '-'),
      takenMs.toFixed(0),
    ]);
  }
  for (const [index, row] of before.entries()) {
    const cosine = cosineOf(Float32Array.from(row), Float32Array.from(rows[index] ?? []));
    if (!(cosine >= COSINE_MIN))
      faults.push(`text ${index}: cosine ${cosine} to the row of before`);
  }
  const headings = ['texts', 'tokens', 'dense', 'sparse ids', 'vectors', `ms for ${REQUEST_COUNT}`];
  const table = `${textTable(headings, lines)}\n${await stageShares(url)}`;
  return { table, faults, rows };
}

function faultsOf({ dense, sparse, multiVector, truncated }: EncodedText): readonly string[] {
  const faults: string[] = [];
  const norm = Math.hypot(...(dense ?? []));
  if (!(Math.abs(norm - 1) < NORM_TOLERANCE)) faults.push(`a dense row has the norm ${norm}`);
  if (sparse && !sparse.values.every((value) => value > 0)) faults.push('a weight is not positive');
  if (multiVector && !multiVector.data.every(Number.isFinite))
    faults.push('a vector is not finite');
  if (truncated) faults.push('a text was truncated');
  return faults;
}

/** Where the time of all requests since the start went, from the server's own counts. */
async function stageShares(url: string): Promise<string> {
  const metrics = await (await fetch(`${url}/metrics`)).text();
  const pattern = /^bge_encoder_stage_duration_seconds_sum\{stage="(\w+)"\} (\S+)$/gm;
  const sums = Array.from(metrics.matchAll(pattern), ([, stage = '', sum]) => ({
    stage,
    seconds: Number(sum),
  }));
  const total = sums.reduce((sum, { seconds }) => sum + seconds, 0);
  const shares = sums.map(
    ({ stage, seconds }) => `${stage} ${((100 * seconds) / total).toFixed(1)} %`,
  );
  return `time of requests, "infer" is that in Triton: ${shares.join(', ')}`;
}

if (import.meta.main) {
  const [url = 'http://127.0.0.1:8080', path = 'reports/rehearsal-rows.json'] =
    process.argv.slice(2);
  const before = existsSync(path) ? await Bun.file(path).json() : undefined;
  const { table, faults, rows } = await probeServer(url, before);
  console.log(table);
  if (before !== undefined) console.log(`${rows.length} rows compared with those of before`);
  for (const fault of faults) console.log(`WRONG: ${fault}`);
  if (before === undefined) await Bun.write(path, JSON.stringify(rows));
  process.exitCode = faults.length === 0 ? 0 : 1;
}
