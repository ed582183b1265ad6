import type { PinnedColumn } from '../job/manifest.ts';
import type { RecordFields } from '../job/records.ts';

/** How texts are cut into chunks. */
export interface ChunkOptions {
  /** Tokens of a chunk at most, with the special tokens and the prefix of the model. */
  readonly tokensMax: number;
  /** Tokens of a chunk, about, that come again in the next; less than half of them. */
  readonly overlapTokens: number;
  /** Whether the text of each chunk is a column. */
  readonly carriesText: boolean;
}

/** Fewer would be a word or two; a single character may become eighteen tokens. */
export const CHUNK_TOKENS_LEAST = 32;

/** What of a job's options has to go with chunks. */
export interface ChunkedJob {
  readonly chunks: ChunkOptions | undefined;
  readonly fields: RecordFields;
  readonly toColumn: string | undefined;
  readonly truncate: boolean;
  readonly format: string;
  readonly inputFormat: string | undefined;
}

const COLUMNS: readonly PinnedColumn[] = [
  { name: 'chunk', kind: 'int64' },
  { name: 'chunk_start', kind: 'int64' },
  { name: 'chunk_end', kind: 'int64' },
  { name: 'chunk_text', kind: 'string' },
];

/** The columns that chunks have beside those of their record. */
export function chunkColumns(chunks: ChunkOptions | undefined): readonly PinnedColumn[] {
  if (chunks === undefined) return [];
  return chunks.carriesText ? COLUMNS : COLUMNS.slice(0, 3);
}

/** @returns what does not go with chunks in these options, as words; undefined where all does. */
export function chunkProblem(options: ChunkedJob): string | undefined {
  const { chunks, toColumn, truncate, format, inputFormat, fields } = options;
  if (chunks === undefined) return undefined;
  const { tokensMax, overlapTokens } = chunks;
  if (!Number.isInteger(tokensMax) || tokensMax < CHUNK_TOKENS_LEAST) {
    return `--chunk-tokens must be a whole number from ${CHUNK_TOKENS_LEAST}, not ${tokensMax}`;
  }
  if (!Number.isInteger(overlapTokens) || overlapTokens < 0 || overlapTokens * 2 >= tokensMax) {
    return `--chunk-overlap ${overlapTokens} must be less than half of --chunk-tokens ${tokensMax}`;
  }
  if (toColumn !== undefined) {
    return '--to-column has room for one vector of each row, and --chunk-tokens makes several: take --to-table';
  }
  if (format === 'openai-batch' || inputFormat === 'openai-batch') {
    return '--chunk-tokens: an OpenAI batch has one vector for each input; take other formats';
  }
  if (!truncate) return '--no-truncate says nothing beside --chunk-tokens: no chunk is cut off';
  const own = fields.carry.find((name) => chunkColumns(chunks).some((one) => one.name === name));
  if (own === undefined) return undefined;
  return `--carry ${own}: with --chunk-tokens the output has a column ${own} of its own`;
}
