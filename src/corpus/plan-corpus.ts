import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { loadManifest, type ModelManifest } from '../model/manifest.ts';
import { openCompiledTokenizer } from '../tokenizer/compiler/tokenizer-file.ts';
import { createCompiledTokenizer } from '../tokenizer/xlmr/compiled-tokenizer.ts';
import { createTokenIds } from '../tokenizer/xlmr/unigram-search.ts';
import { openRecordChunker, type RecordChunker } from './chunks/chunk-records.ts';
import type { CorpusContext, CorpusOptions } from './corpus-options.ts';
import { describeRepeated, planShards } from './job/plan-shards.ts';
import { durationOf } from './job/progress.ts';
import type { CorpusRecord } from './job/records.ts';
import { openSource } from './sources/open-source.ts';

/** So much is tokenized one and all; of the texts after that, one in `SAMPLE_STEP`. */
const EXACT_TEXTS = 20_000;
const EXACT_CHARACTERS = 1 << 28;
const SAMPLE_STEP = 16;

/**
 * Tokens a second and core of the embedded model in int8, of texts of about 130 tokens: what the
 * bench of the embedded backend measured.
 */
const TOKENS_PER_SECOND_CORE = 5_500;

/**
 * Counts what a job would have to do: texts, tokens, bytes, time. The tokenizer is the model's own;
 * the model itself is not asked.
 *
 * @returns lines for people.
 * @throws CorpusError of the source; ManifestError, or Error when the tokenizer is not set up.
 */
export async function planCorpus(
  options: CorpusOptions,
  context: CorpusContext & { readonly tokensPerSecond: number | undefined },
): Promise<string> {
  const modelsDir = context.environment.MODELS_DIR || join(dirname(context.entry), '../models');
  const name = context.environment.MODEL || 'multilingual-e5-small';
  const model = await loadManifest({ modelsDir, name });
  const { id, prefixes, tokenCountMax } = model;
  const prefix = prefixes[options.inputType];
  const chunker = await openRecordChunker(options, context, { id, prefix, tokenCountMax });
  const counter = await openTokenCounter({ folder: join(modelsDir, id), model, prefix, chunker });
  const source = await openSource(options, context);
  try {
    const { fields, parts } = options;
    const { planned, repeated } = await planShards({
      inputs: source.inputs,
      fields,
      limits: parts,
      signal: context.signal,
      onRecord: (record) => counter.add(record),
    });
    const { tokens, errorTokens, kept, rows, encodable } = counter.totals();
    const bytes = bytesOut({ options, rows, kept, dimension: model.dimension });
    const rate = context.tokensPerSecond ?? TOKENS_PER_SECOND_CORE * availableParallelism();
    const basis =
      context.tokensPerSecond === undefined ? 'of an embedded model here, a guess' : 'as given';
    const margin = errorTokens === 0 ? 'counted' : `± ${errorTokens}, from a sample`;
    return [
      `texts   ${planned.textCount}, of which ${planned.textCount - encodable} cannot be encoded`,
      `parts   ${planned.shards.length}`,
      ...(chunker === undefined
        ? [`tokens  ${tokens} (${margin}); ${kept} after cutting at ${tokenCountMax}`]
        : [
            `tokens  ${tokens} (${margin}), those of all chunks`,
            `chunks  ${rows} of at most ${chunker.tokensMax} tokens`,
          ]),
      `bytes   ${(bytes / 1e6).toFixed(1)} MB of ${options.format}`,
      ...(repeated === undefined ? [] : [`ids     ${describeRepeated(repeated)}`]),
      `time    ${durationOf(kept / rate)} at ${rate} tokens/s (${basis})`,
      '',
    ].join('\n');
  } finally {
    await source.close();
  }
}

interface TokenTotals {
  readonly tokens: number;
  /** Half of the interval that holds the true count with 95 %. */
  readonly errorTokens: number;
  /** What is left after cutting. */
  readonly kept: number;
  /** Rows with vectors. */
  readonly rows: number;
  /** Texts that can be encoded. */
  readonly encodable: number;
}

async function openTokenCounter({
  folder,
  model,
  prefix,
  chunker,
}: {
  folder: string;
  model: ModelManifest;
  prefix: string;
  chunker: RecordChunker | undefined;
}): Promise<{ add(record: CorpusRecord): void; totals(): TokenTotals }> {
  const { tables } = await openCompiledTokenizer({
    tokenizerPath: join(folder, 'tokenizer.json'),
    compiledPath: join(folder, 'tokenizer.compiled'),
  });
  const tokenizer = createCompiledTokenizer(tables);
  const out = createTokenIds();
  const options = {
    tokenCountMax: model.tokenCountMax,
    specialTokens: true,
    truncationSide: 'right',
    out,
  } as const;
  const exact = { tokens: 0, kept: 0, rows: 0, characters: 0 };
  const sample = new RatioSample();
  let encodable = 0;
  const sizeOf = (text: string): { tokens: number; kept: number; rows: number } => {
    if (chunker !== undefined) {
      const { tokens, chunks } = chunker.sizeOf(text);
      return { tokens, kept: tokens, rows: chunks };
    }
    out.length = 0;
    const { fullCount, keptCount } = tokenizer.encode(prefix + text, options);
    return { tokens: fullCount, kept: keptCount, rows: 1 };
  };
  return {
    add({ text, fault }) {
      if (fault !== undefined) return;
      const isExact = encodable++ < EXACT_TEXTS && exact.characters < EXACT_CHARACTERS;
      if (!isExact) sample.see(text.length);
      // By a hash: what comes round at a fixed distance would be seen always or never.
      if (!isExact && Bun.hash.xxHash32(String(encodable)) % SAMPLE_STEP !== 0) return;
      const size = sizeOf(text);
      if (isExact) {
        exact.characters += text.length;
        exact.tokens += size.tokens;
        exact.kept += size.kept;
        exact.rows += size.rows;
      } else sample.add({ characters: text.length, ...size });
    },
    totals() {
      const rest = sample.totals();
      return {
        tokens: exact.tokens + rest.tokens,
        errorTokens: rest.errorTokens,
        kept: exact.kept + rest.kept,
        rows: chunker === undefined ? encodable : exact.rows + rest.rows,
        encodable,
      };
    },
  };
}

/**
 * Estimates tokens from characters, which are known of all texts, and the ratio of the two in a
 * sample: far closer than from the number of texts, whose lengths differ by orders.
 */
class RatioSample {
  #seen = 0;
  #seenCharacters = 0;
  #count = 0;
  #sums = { characters: 0, tokens: 0, kept: 0, rows: 0, tokens2: 0, characters2: 0, product: 0 };

  see(characters: number): void {
    this.#seen++;
    this.#seenCharacters += characters;
  }

  add(text: { characters: number; tokens: number; kept: number; rows: number }): void {
    const { characters, tokens, kept, rows } = text;
    const sums = this.#sums;
    this.#count++;
    sums.characters += characters;
    sums.tokens += tokens;
    sums.kept += kept;
    sums.rows += rows;
    sums.tokens2 += tokens * tokens;
    sums.characters2 += characters * characters;
    sums.product += tokens * characters;
  }

  totals(): { tokens: number; errorTokens: number; kept: number; rows: number } {
    const { characters, tokens, kept, rows, tokens2, characters2, product } = this.#sums;
    if (this.#count < 2 || characters === 0) return { tokens: 0, errorTokens: 0, kept: 0, rows: 0 };
    const ratio = tokens / characters;
    const residuals = tokens2 - 2 * ratio * product + ratio * ratio * characters2;
    const deviation = Math.sqrt(Math.max(0, residuals) / (this.#count - 1));
    return {
      tokens: Math.round(ratio * this.#seenCharacters),
      errorTokens: Math.round((1.96 * this.#seen * deviation) / Math.sqrt(this.#count)),
      kept: Math.round((kept / characters) * this.#seenCharacters),
      rows: Math.round((rows / characters) * this.#seenCharacters),
    };
  }
}

/** Bytes of the vectors; what stands beside them is small. */
function bytesOut(job: {
  options: CorpusOptions;
  rows: number;
  kept: number;
  dimension: number;
}): number {
  const { options, rows, kept, dimension } = job;
  // A float32 in JSON takes ten characters and a comma, a float16 some seven.
  const perNumber = {
    float32: options.format === 'jsonl' ? 11.5 : 4,
    float16: options.format === 'jsonl' ? 9 : 2,
  }[options.dtype];
  const perHead = {
    dense: rows * dimension * perNumber,
    // Most tokens of a text are distinct, and each has an id beside its weight.
    sparse: kept * 0.7 * (perNumber + 4),
    multi_vector: kept * dimension * perNumber,
  };
  return options.heads.reduce((sum, head) => sum + perHead[head], rows * 30);
}
