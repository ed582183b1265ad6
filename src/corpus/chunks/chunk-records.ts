import { dirname, join } from 'node:path';
import { systemClock } from '../../base/clock.ts';
import { openCompiledTokenizer } from '../../tokenizer/compiler/tokenizer-file.ts';
import { countCharacters } from '../../tokenizer/xlmr/character-lookup.ts';
import { CorpusError, wordsOf } from '../corpus-error.ts';
import type { Fingerprint } from '../job/manifest.ts';
import type { CorpusRecord } from '../job/records.ts';
import { collectAfter } from '../sources/lines.ts';
import { type ChunkedJob, chunkProblem } from './chunk-options.ts';
import { createTextChunker, type TextChunk, type TextChunker } from './text-chunker.ts';

/** What special tokens and prefix must leave of a chunk. */
const TEXT_TOKENS_LEAST = 24;

/** Makes rows of records: one for each chunk of their texts. */
export interface RecordChunker {
  readonly tokensMax: number;
  /** What decides where texts are cut, for the fingerprint of the job. */
  readonly identity: Fingerprint;
  /**
   * The same records where nothing is cut, each with its columns. Gives the event loop its turn
   * between chunks.
   */
  expand(records: readonly CorpusRecord[], signal: AbortSignal): Promise<readonly CorpusRecord[]>;
  /** Chunks of a text, and the tokens of all of them. */
  sizeOf(text: string): { chunks: number; tokens: number };
}

/** What a chunker must know of the model that will read the chunks. */
export interface ChunkedModel {
  readonly id: string;
  readonly prefix: string;
  /** Undefined where a server does not say. */
  readonly tokenCountMax: number | undefined;
}

/** Of a process: where its models are. */
interface ModelsPlace {
  readonly entry: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** Units that are cut in one turn of the event loop: some milliseconds. */
const TURN_UNITS = 1 << 16;

/**
 * Opens the tokenizer of the model, as it was set up on this machine.
 *
 * @returns undefined where texts are not cut.
 * @throws CorpusError CORPUS_FLAG_INVALID.
 */
export async function openRecordChunker(
  options: ChunkedJob,
  context: ModelsPlace,
  model: ChunkedModel,
): Promise<RecordChunker | undefined> {
  const { chunks } = options;
  if (chunks === undefined) return undefined;
  const problem = chunkProblem(options);
  if (problem !== undefined) throw invalid(`${problem}.`);
  const { tokensMax, overlapTokens, carriesText } = chunks;
  const { id, prefix, tokenCountMax = Number.POSITIVE_INFINITY } = model;
  if (tokensMax > tokenCountMax) {
    throw invalid(`--chunk-tokens ${tokensMax}: ${id} takes ${tokenCountMax} tokens at most.`);
  }
  const tables = await openTables(context, id);
  const chunker = createTextChunker({ tables, prefix, tokensMax, overlapTokens });
  const left = tokensMax - chunker.baseCount;
  if (left < TEXT_TOKENS_LEAST) {
    throw invalid(
      `--chunk-tokens ${tokensMax}: special tokens and prefix of ${id} leave ${left} of them, ` +
        `and a chunk wants ${TEXT_TOKENS_LEAST}.`,
    );
  }
  return {
    tokensMax,
    identity: {
      'chunk-tokens': tokensMax,
      'chunk-overlap': overlapTokens,
      'chunk-text': carriesText,
      tokenizer: tables.meta.sourceSha256,
    },
    expand: (records, signal) => expand(records, { chunker, carriesText, signal }),
    sizeOf(text) {
      const size = { chunks: 0, tokens: 0 };
      for (const { tokenCount = chunker.countOf(text) } of chunker.chunksOf(text)) {
        size.chunks++;
        size.tokens += tokenCount;
      }
      return size;
    },
  };
}

async function openTables(context: ModelsPlace, id: string) {
  const modelsDir = context.environment.MODELS_DIR || join(dirname(context.entry), '../models');
  const folder = join(modelsDir, id);
  try {
    const { tables } = await openCompiledTokenizer({
      tokenizerPath: join(folder, 'tokenizer.json'),
      compiledPath: join(folder, 'tokenizer.compiled'),
    });
    return tables;
  } catch (error) {
    const message =
      `--chunk-tokens counts by the tokenizer of ${id}, and ${folder}/tokenizer.json cannot be ` +
      `used (${wordsOf(error)}); MODEL=${id} ./run.sh embed sets it up.`;
    throw invalid(message, error);
  }
}

async function expand(
  records: readonly CorpusRecord[],
  options: { chunker: TextChunker; carriesText: boolean; signal: AbortSignal },
): Promise<readonly CorpusRecord[]> {
  const { chunker, carriesText, signal } = options;
  const rows: CorpusRecord[] = [];
  let turnUnits = 0;
  for (const record of records) {
    const { text } = record;
    collectAfter(text.length);
    const places = new CodePointPlaces(text);
    let chunk = 0;
    for (const { start, end } of record.fault === undefined ? chunker.chunksOf(text) : NO_TEXT) {
      const own = start === 0 && end === text.length ? text : text.slice(start, end);
      const [from, to] = places.of(start, end);
      const columns = carriesText ? [chunk, from, to, own] : [chunk, from, to];
      const carried = [...record.carried, ...columns];
      rows.push({ ...record, text: own, carried, isContinued: end < text.length });
      chunk++;
      turnUnits += end - start;
      if (turnUnits < TURN_UNITS) continue;
      turnUnits = 0;
      await new Promise<void>((resolve) => systemClock.afterTurn(resolve));
      signal.throwIfAborted();
    }
  }
  return rows;
}

/** The row of a record without a text that could be encoded. */
const NO_TEXT: readonly TextChunk[] = [{ start: 0, end: 0, tokenCount: undefined }];

/** Turns UTF-16 units of a text into code points, from one chunk to the next. */
class CodePointPlaces {
  readonly #text: string;
  #unit = 0;
  #place = 0;

  constructor(text: string) {
    this.#text = text;
  }

  of(start: number, end: number): readonly [number, number] {
    const isBack = start < this.#unit;
    const [low, high] = isBack ? [start, this.#unit] : [this.#unit, start];
    const between = countCharacters(this.#text, low, high);
    const first = isBack ? this.#place - between : this.#place + between;
    this.#unit = end;
    this.#place = first + countCharacters(this.#text, start, end);
    return [first, this.#place];
  }
}

function invalid(message: string, cause?: unknown): CorpusError {
  return new CorpusError('CORPUS_FLAG_INVALID', message, cause);
}
