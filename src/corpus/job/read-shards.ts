import type { RecordChunker } from '../chunks/chunk-records.ts';
import { CorpusError } from '../corpus-error.ts';
import type { Position, RawRecord, Source, SourceInput } from '../sources/source.ts';
import type { Manifest, PinnedInput, ShardEntry } from './manifest.ts';
import { isAsPinned, sourceChanged, startsOf } from './pins.ts';
import { chainHash, hashRecord, hexOf } from './plan-shards.ts';
import { type CorpusRecord, createRecordReader, type RecordFields } from './records.ts';

/** The records of one part, as they were pinned; their chunks where texts are cut. */
export interface ShardRecords {
  readonly index: number;
  readonly isChunked?: boolean;
  readonly records: readonly CorpusRecord[];
}

/**
 * Reads shards. Those that follow one another come from one pass over their inputs, also of packed
 * files, which can only be read from their start.
 */
export class ShardReader {
  readonly #manifest: Manifest;
  readonly #inputs: readonly SourceInput[];
  readonly #fields: RecordFields;
  readonly #recordOf: ReturnType<typeof createRecordReader>;
  readonly #firstRows: readonly number[];
  readonly #chunker: RecordChunker | undefined;
  readonly #signal: AbortSignal;
  #cursor: Cursor | undefined;

  constructor(options: {
    manifest: Manifest;
    source: Source;
    fields: RecordFields;
    chunker: RecordChunker | undefined;
    signal: AbortSignal;
  }) {
    this.#manifest = options.manifest;
    this.#chunker = options.chunker;
    this.#signal = options.signal;
    this.#inputs = options.source.inputs;
    this.#fields = options.fields;
    this.#recordOf = createRecordReader(options.fields);
    this.#firstRows = startsOf(this.#manifest.shards.map(([, , count]) => count));
  }

  /**
   * @throws CorpusError CORPUS_SOURCE_CHANGED when they are not what was pinned;
   * CORPUS_SOURCE_FAILED when they can no longer be read.
   */
  async read(index: number): Promise<ShardRecords> {
    try {
      return await this.#readNow(index);
    } catch (error) {
      const wasReadable = error instanceof CorpusError && error.code === 'CORPUS_SOURCE_INVALID';
      if (!wasReadable) throw error;
      const message = `${error.message} What is committed stays.`;
      throw new CorpusError('CORPUS_SOURCE_FAILED', message, error);
    }
  }

  async #readNow(index: number): Promise<ShardRecords> {
    const [input, start, count, pinned] = this.#manifest.shards[index] as ShardEntry;
    if (this.#cursor === undefined || !(await this.#cursor.leadsTo(input, start))) {
      await this.#cursor?.close();
      this.#cursor = new Cursor(this.#inputs, input, start);
    }
    const firstRow = this.#firstRows[index] ?? 0;
    const records: CorpusRecord[] = [];
    let hash = 0n;
    for (const raw of await this.#cursor.take(start, count)) {
      const record = this.#recordOf(raw, firstRow + records.length);
      hash = chainHash(hash, hashRecord(record));
      records.push(record);
    }
    const isSame = records.length === count && hexOf(hash) === pinned;
    if (!isSame) throw await this.#changed(input, this.#cursor.input);
    if (this.#chunker === undefined) return { index, records };
    const chunks = await this.#chunker.expand(records, this.#signal);
    return { index, records: chunks, isChunked: true };
  }

  /** Lets go of the input that is open. */
  async close(): Promise<void> {
    await this.#cursor?.close();
  }

  /** Names the one of several inputs that is not what it was; to find it, they are read again. */
  async #changed(first: number, last: number): Promise<CorpusError> {
    const pins = this.#manifest.inputs;
    const firstRows = startsOf(pins.map(({ records }) => records));
    for (let place = first; place < last; place++) {
      const input = this.#inputs[place] as SourceInput;
      const pin = pins[place] as PinnedInput;
      const firstRow = firstRows[place] ?? 0;
      const isSame = await isAsPinned({ input, pin, firstRow, fields: this.#fields });
      if (!isSame) return sourceChanged(input.name);
    }
    // The others are as they were.
    return sourceChanged((this.#inputs[last] as SourceInput).name);
  }
}

/** One pass over inputs that follow one another, somewhere in one of them. */
class Cursor {
  readonly #inputs: readonly SourceInput[];
  /** The place of the input that is being read. */
  #input: number;
  #batches: AsyncGenerator<readonly RawRecord[], void, undefined>;
  #waiting: readonly RawRecord[] = [];
  #at = 0;

  constructor(inputs: readonly SourceInput[], input: number, start: Position) {
    this.#inputs = inputs;
    this.#input = input;
    this.#batches = (inputs[input] as SourceInput).read(start);
  }

  get input(): number {
    return this.#input;
  }

  /** Whether going on is the way there: at once, or by skipping where nothing is faster. */
  async leadsTo(input: number, start: Position): Promise<boolean> {
    if (input !== this.#input) return false;
    const next = (await this.#peek())?.position;
    if (next === start) return true;
    const isBehind = typeof next === 'number' && typeof start === 'number' && next < start;
    return this.#inputs[input]?.isSeekable === false && isBehind;
  }

  /** @returns records from there on, also of the inputs that follow. */
  async take(start: Position, count: number): Promise<readonly RawRecord[]> {
    const taken: RawRecord[] = [];
    let skipsTo = typeof start === 'number' ? start : undefined;
    while (taken.length < count) {
      if ((await this.#peek()) === undefined) {
        if (!this.#goOn()) break;
        skipsTo = undefined;
      }
      // Those that are read already, without a promise for each.
      while (taken.length < count && this.#at < this.#waiting.length) {
        const record = this.#waiting[this.#at++] as RawRecord;
        const isBefore = skipsTo !== undefined && Number(record.position) < skipsTo;
        if (!isBefore) taken.push(record);
      }
    }
    return taken;
  }

  /** Begins the next input. @returns false where there is none. */
  #goOn(): boolean {
    const next = this.#inputs[this.#input + 1];
    if (next === undefined) return false;
    this.#input++;
    this.#batches = next.read(undefined);
    return true;
  }

  async #peek(): Promise<RawRecord | undefined> {
    while (this.#at >= this.#waiting.length) {
      const pulled = await this.#batches.next();
      if (pulled.done === true) return undefined;
      this.#waiting = pulled.value;
      this.#at = 0;
    }
    return this.#waiting[this.#at];
  }

  async close(): Promise<void> {
    await this.#batches.return();
  }
}
