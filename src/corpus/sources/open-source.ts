import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { CorpusError } from '../corpus-error.ts';
import type { CorpusContext, CorpusOptions } from '../embed-corpus.ts';
import type { RecordFields } from '../job/records.ts';
import { type ByteInput, compressionOf, localInput } from './byte-input.ts';
import {
  documentInput,
  INPUT_FORMATS,
  type InputFormat,
  jsonArrayInput,
  jsonLinesInput,
  separatedInput,
  textLinesInput,
} from './formats.ts';
import { parquetInput } from './parquet-input.ts';
import type { Source, SourceInput } from './source.ts';

/** Endings of names, and how such a file is laid out. */
const FORMAT_OF_ENDING: Readonly<Record<string, InputFormat>> = {
  jsonl: 'jsonl',
  ndjson: 'jsonl',
  json: 'json',
  csv: 'csv',
  tsv: 'tsv',
  txt: 'text',
  md: 'document',
  parquet: 'parquet',
  pq: 'parquet',
};

/**
 * Finds what the addresses name: files, folders, globs. Inputs stand in the order of the addresses,
 * and within a folder or a glob in that of their names' bytes.
 *
 * @throws CorpusError CORPUS_SOURCE_INVALID that names the address.
 */
export async function openSource(options: CorpusOptions, _context: CorpusContext): Promise<Source> {
  const inputs: SourceInput[] = [];
  for (const address of options.sources) {
    for (const path of await pathsOf(address)) inputs.push(inputOf(localInput(path), options));
  }
  return { inputs, close: async () => undefined };
}

/** The input that reads these bytes as their name, or the flag, says. */
function inputOf(bytes: ByteInput, options: CorpusOptions): SourceInput {
  const { compression, plainName } = compressionOf(bytes.name);
  const ending = /\.(\w+)$/.exec(plainName)?.[1]?.toLowerCase() ?? '';
  const format = options.inputFormat ?? FORMAT_OF_ENDING[ending];
  switch (format) {
    case 'jsonl':
    case 'openai-batch':
      return jsonLinesInput(bytes, compression);
    case 'json':
      return jsonArrayInput(bytes, compression);
    case 'csv':
      return separatedInput(bytes, { compression, delimiter: ',' });
    case 'tsv':
      return separatedInput(bytes, { compression, delimiter: '\t' });
    case 'text':
      return textLinesInput(bytes, compression);
    case 'document':
      return documentInput(bytes, compression);
    case 'parquet':
      return parquetInput(bytes, { columns: topLevel(options.fields) });
    default: {
      const known = INPUT_FORMATS.join(', ');
      throw new CorpusError(
        'CORPUS_SOURCE_INVALID',
        `${bytes.name}: its name does not say what it is; give --input-format (${known}).`,
      );
    }
  }
}

async function pathsOf(address: string): Promise<readonly string[]> {
  const facts = await stat(address).catch(() => undefined);
  if (facts?.isFile()) return [address];
  const isFolder = facts?.isDirectory() === true;
  const glob = new Bun.Glob(isFolder ? '**/*' : address);
  const found: string[] = [];
  // Hidden files are left out: they are other programs' own.
  for await (const path of glob.scan({ ...(isFolder ? { cwd: address } : {}), onlyFiles: true })) {
    const full = isFolder ? join(address, path) : path;
    if (!isFolder || isTextFile(full)) found.push(full);
  }
  if (found.length > 0) return found.sort(byBytes);
  const message = isFolder
    ? `${address} has no file of texts in it (${Object.keys(FORMAT_OF_ENDING).join(', ')}).`
    : `${address}: there is no such file, folder or match.`;
  throw new CorpusError('CORPUS_SOURCE_INVALID', message);
}

/** The columns at the top level that the job reads. */
function topLevel({ text, id, carry }: RecordFields): string[] {
  const fields = [...text, ...(id === undefined ? [] : [id]), ...carry];
  return [...new Set(fields.flatMap((field) => [field, field.split('.')[0] as string]))];
}

/** In a folder lie other things too; what is named by itself is read whatever its name. */
function isTextFile(path: string): boolean {
  const ending = /\.(\w+)$/.exec(compressionOf(path).plainName)?.[1]?.toLowerCase() ?? '';
  return FORMAT_OF_ENDING[ending] !== undefined;
}

/** The same order everywhere, whatever the locale. */
function byBytes(left: string, right: string): number {
  return Buffer.compare(Buffer.from(left), Buffer.from(right));
}
