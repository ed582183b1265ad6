/**
 * How fast the corpus' file formats are written, and how large they get: `bun
 * scripts/bench/sinks-bench.ts`. Random rows of length one, on the disk that holds the temporary
 * folder, synced.
 */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { JSONL_FORMAT } from '../../src/corpus/sinks/jsonl-format.ts';
import { NPY_FORMAT } from '../../src/corpus/sinks/npy-format.ts';
import { PARQUET_FORMAT } from '../../src/corpus/sinks/parquet/parquet-format.ts';
import type { PartFormat } from '../../src/corpus/sinks/part-format.ts';
import { createCopyEncoder } from '../../src/corpus/sinks/postgres/copy-encoder.ts';
import type { OutputRow, OutputSchema } from '../../src/corpus/sinks/sink.ts';
import { StagedFile } from '../../src/corpus/sinks/staged-file.ts';
import { seededRandom } from '../../src/testing/seeded-random.ts';
import { count, ROUNDS, readFlags } from '../flags.ts';
import { medianOf } from './load/latencies.ts';
import { saveRun } from './report/save-run.ts';
import { short, textTable } from './report/text-table.ts';
import { runScript } from './run-script.ts';

const FLAGS = {
  rows: count(10_000, [100, 1_000_000], 'rows of a file'),
  rounds: ROUNDS,
};

const DIMENSION = 1024;
/** As a reply brings them. */
const ROWS_AT_ONCE = 64;

const COPY_FORMAT: Pick<PartFormat, 'endings' | 'open'> & { readonly name: string } = {
  name: 'binary COPY',
  endings: ['.copy'],
  open: ([file], schema) => createCopyEncoder({ file: file as StagedFile, schema, vectorOid: 0 }),
};

const FORMATS = [PARQUET_FORMAT, NPY_FORMAT, JSONL_FORMAT, COPY_FORMAT];

async function main(): Promise<void> {
  const { rows: rowCount, rounds } = readFlags(import.meta.path, FLAGS);
  const folder = mkdtempSync(join(tmpdir(), 'sinks-bench-'));
  try {
    const rows = randomRows(rowCount);
    const table: string[][] = [];
    for (const dtype of ['float32', 'float16'] as const) {
      for (const format of FORMATS) {
        const seconds: number[] = [];
        let bytes = 0;
        for (let round = 0; round < rounds; round++) {
          const startMs = performance.now();
          bytes = await writeFile(folder, format, rows, dtype);
          seconds.push((performance.now() - startMs) / 1000);
        }
        const rate = (rowCount * DIMENSION * 4) / 1e6 / medianOf(seconds);
        table.push([format.name, dtype, short(rate), short(bytes / 1e6)]);
      }
    }
    const raw = short((rowCount * DIMENSION * 4) / 1e6);
    console.log(textTable(['format', 'dtype', 'MB/s of float32', `MB of ${raw}`], table));
    await saveRun('sinks', { rowCount, rounds }, table);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function randomRows(count: number): OutputRow[] {
  const random = seededRandom(1);
  const pool = Float32Array.from(
    { length: DIMENSION * 64 },
    () => random.between(-1_000_000, 1_000_000) / 2e7,
  );
  return Array.from({ length: count }, (_, index) => ({
    id: `law-${index}`,
    carried: [],
    error: undefined,
    encoded: {
      tokenCount: 100,
      truncated: false,
      dense: pool.slice((index % 63) * DIMENSION, (index % 63) * DIMENSION + DIMENSION),
    },
  }));
}

/** @returns bytes of all files. */
async function writeFile(
  folder: string,
  format: Pick<PartFormat, 'endings' | 'open'>,
  rows: readonly OutputRow[],
  dtype: OutputSchema['dtype'],
): Promise<number> {
  const files: StagedFile[] = [];
  for (const ending of format.endings)
    files.push(await StagedFile.create(join(folder, `a${ending}`)));
  const encoder = format.open(files, {
    id: { name: 'id', kind: 'string' },
    carried: [],
    heads: ['dense'],
    dtype,
    dimension: DIMENSION,
    model: 'bench',
  });
  for (let start = 0; start < rows.length; start += ROWS_AT_ONCE) {
    await encoder.write(rows.slice(start, start + ROWS_AT_ONCE));
  }
  await encoder.finish();
  for (const file of files) await file.finish();
  return files.reduce((sum, { path }) => sum + statSync(path).size, 0);
}

await runScript('sinks-bench', main);
