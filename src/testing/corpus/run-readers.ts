import { join } from 'node:path';
import { readersPython, storesPython } from './readers-venv.ts';

/** One row as a reader gives it back: vectors as base64 of their bytes. */
export interface ReadRow {
  readonly id: string;
  readonly year: number | null;
  readonly error: string | null;
  readonly token_count: number | null;
  readonly truncated: boolean | null;
  readonly embedding: string | null;
  readonly sparse_indices: string | null;
  readonly sparse_values: string | null;
  readonly multi_vector: readonly string[] | null;
}

/** Reads an output by a library that people use. */
export async function readBack(
  reader: 'pyarrow' | 'polars' | 'duckdb' | 'numpy',
  folder: string,
): Promise<{ kinds: Record<string, string>; rows: readonly ReadRow[] }> {
  return JSON.parse(await runReader('read_back.py', reader, folder));
}

/** Runs a script of this folder in the readers' venv. @returns its output. */
export function runReader(script: string, ...words: readonly string[]): Promise<string> {
  return run(readersPython(), script, words);
}

/** Searches rows in a store of the stores' venv. @returns ids and distances as JSON. */
export function runStore(words: readonly string[]): Promise<string> {
  return run(storesPython(), 'search_rows.py', words);
}

async function run(python: string, script: string, words: readonly string[]): Promise<string> {
  const child = Bun.spawn([python, join(import.meta.dir, script), ...words], {
    stdout: 'pipe',
    stderr: 'pipe',
  });
  const [out, errors, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (code !== 0) throw new Error(`${script} ${words.join(' ')} ended with ${code}:\n${errors}`);
  return out;
}
