import type { Position, RawRecord, Source, SourceInput } from '../sources/source.ts';
import type { Manifest, ShardEntry } from './manifest.ts';
import { chainHash, hashRecord, hexOf, sourceChanged } from './plan-shards.ts';
import { type CorpusRecord, createRecordReader, type RecordFields } from './records.ts';

/** The records of one part, as they were pinned. */
export interface ShardRecords {
  readonly index: number;
  readonly records: readonly CorpusRecord[];
}

/**
 * Reads shards. Those that follow one another come from one pass over their input, also of packed
 * files, which can only be read from their start.
 */
export class ShardReader {
  readonly #manifest: Manifest;
  readonly #source: Source;
  readonly #recordOf: ReturnType<typeof createRecordReader>;
  readonly #firstRows: readonly number[];
  #cursor: Cursor | undefined;

  constructor(options: { manifest: Manifest; source: Source; fields: RecordFields }) {
    this.#manifest = options.manifest;
    this.#source = options.source;
    this.#recordOf = createRecordReader(options.fields);
    let row = 0;
    this.#firstRows = this.#manifest.shards.map(([, , count]) => {
      row += count;
      return row - count;
    });
  }

  /**
   * @throws CorpusError CORPUS_SOURCE_CHANGED when they are not what was pinned; of the source.
   */
  async read(index: number): Promise<ShardRecords> {
    const [inputIndex, start, count, pinned] = this.#manifest.shards[index] as ShardEntry;
    const input = this.#source.inputs[inputIndex] as SourceInput;
    if (this.#cursor === undefined || !(await this.#cursor.leadsTo(input, start))) {
      await this.#cursor?.close();
      this.#cursor = new Cursor(input, start);
    }
    const firstRow = this.#firstRows[index] ?? 0;
    const records: CorpusRecord[] = [];
    let hash = 0n;
    for (const raw of await this.#cursor.take(start, count)) {
      const record = this.#recordOf(raw, firstRow + records.length);
      hash = chainHash(hash, hashRecord(record));
      records.push(record);
    }
    if (records.length !== count || hexOf(hash) !== pinned) throw sourceChanged(input.name);
    return { index, records };
  }

  /** Lets go of the input that is open. */
  async close(): Promise<void> {
    await this.#cursor?.close();
  }
}

/** One pass over an input, somewhere in it. */
class Cursor {
  readonly #input: SourceInput;
  readonly #batches: AsyncGenerator<readonly RawRecord[], void, undefined>;
  #waiting: readonly RawRecord[] = [];
  #at = 0;
  constructor(input: SourceInput, start: Position) {
    this.#input = input;
    this.#batches = input.read(start);
  }

  /** Whether going on is the way there: at once, or by skipping where nothing is faster. */
  async leadsTo(input: SourceInput, start: Position): Promise<boolean> {
    if (input !== this.#input) return false;
    const next = (await this.#peek())?.position;
    if (next === start) return true;
    const isBehind = typeof next === 'number' && typeof start === 'number' && next < start;
    return !input.isSeekable && isBehind;
  }

  async take(start: Position, count: number): Promise<readonly RawRecord[]> {
    const taken: RawRecord[] = [];
    while (taken.length < count) {
      if ((await this.#peek()) === undefined) break;
      // Those that are read already, without a promise for each.
      while (taken.length < count && this.#at < this.#waiting.length) {
        const record = this.#waiting[this.#at++] as RawRecord;
        const isBefore = typeof start === 'number' && Number(record.position) < start;
        if (!isBefore) taken.push(record);
      }
    }
    return taken;
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
