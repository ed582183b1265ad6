import { CorpusError } from '../corpus-error.ts';
import type { Position, RawRecord, SourceInput } from '../sources/source.ts';
import { UTF8_ADVICE } from '../sources/text-bytes.ts';
import type { PinnedColumn, PinnedInput, ShardEntry } from './manifest.ts';
import {
  type ColumnKind,
  type CorpusRecord,
  createRecordReader,
  plainJson,
  type RecordFields,
  widenKind,
} from './records.ts';

/** How large a part gets; whichever bound is met first ends it. */
export interface ShardLimits {
  readonly partTextsMax: number;
  /** UTF-16 units of all texts of a part. A single text may exceed it. */
  readonly partCharactersMax: number;
}

/** The inputs, read once from end to end. */
export interface PlannedShards {
  readonly textCount: number;
  readonly inputs: readonly PinnedInput[];
  readonly id: PinnedColumn;
  readonly carried: readonly PinnedColumn[];
  readonly shards: readonly ShardEntry[];
}

/** Ids that came again within their part; across parts nobody looks, to hold no more than one. */
export interface RepeatedIds {
  readonly count: number;
  /** The first of them as words: id, records, input. */
  readonly first: string;
}

/** So many records from the start without a text are a wrong flag and not bad data. */
const RECORDS_TO_FIND_A_TEXT = 100;

/** Seed of ids that are hashed as they are, and not as JSON. */
const PLAIN_ID = 1n;

/** The hash of what the job reads of a record. */
export function hashRecord(record: CorpusRecord): bigint {
  const { id, text, fault, carried, group } = record;
  const isPlain =
    typeof id === 'string' && fault === undefined && carried.length === 0 && group === undefined;
  const rest = isPlain
    ? Bun.hash.xxHash64(id, PLAIN_ID)
    : Bun.hash.xxHash64(plainJson([plainId(id), fault, carried, group]));
  // The text by itself: to write it as JSON first costs ten times the hash.
  return Bun.hash.xxHash64(text, rest);
}

/** The hash of records in their order, from that of those before and the next one's. */
export function chainHash(before: bigint, next: bigint): bigint {
  return BigInt.asUintN(64, (before ^ next) * ODD_FACTOR);
}

/** 2^64 divided by the golden ratio: spreads each bit over all those above it. */
const ODD_FACTOR = 0x9e3779b97f4a7c15n;

function plainId(id: CorpusRecord['id']): string | number | null {
  return typeof id === 'bigint' ? String(id) : id;
}

/** A hash as manifests hold it. */
export function hexOf(hash: bigint): string {
  return hash.toString(16).padStart(16, '0');
}

/**
 * Reads every input once: counts the records, cuts them into shards, pins both by hashes, and finds
 * what kind of values the columns hold. What it holds in memory grows with the shards alone.
 *
 * @param options.onRecord sees each record; for whoever wants to count tokens on the way.
 * @throws CorpusError CORPUS_SOURCE_INVALID.
 */
export async function planShards(options: {
  inputs: readonly SourceInput[];
  fields: RecordFields;
  limits: ShardLimits;
  signal: AbortSignal;
  onRecord?: (record: CorpusRecord) => void;
}): Promise<{ planned: PlannedShards; repeated: RepeatedIds | undefined }> {
  const { inputs, fields, onRecord } = options;
  const recordOf = createRecordReader(fields);
  const kinds = new ColumnKinds(fields);
  const cutter = new ShardCutter(options.limits);
  const pinned: PinnedInput[] = [];
  let row = 0;
  let hasText = false;
  const seen = new SeenFields(fields);
  const ids = new PartIds();
  for (const [index, input] of inputs.entries()) {
    const looked = await input.look();
    ids.begin(input.name);
    const firstRow = row;
    let inputHash = 0n;
    for await (const batch of input.read(undefined)) {
      options.signal.throwIfAborted();
      for (const raw of batch) {
        const record = recordOf(raw, row);
        row++;
        hasText ||= record.text !== '';
        seen.add(input, raw, record);
        if (!hasText && row >= RECORDS_TO_FIND_A_TEXT) throw seen.missing('text', fields.text);
        kinds.widen(record);
        const hash = hashRecord(record);
        inputHash = chainHash(inputHash, hash);
        if (cutter.add({ input: index, position: raw.position, record, hash })) ids.clear();
        if (fields.id !== undefined) ids.add(record);
        onRecord?.(record);
      }
    }
    const pin = { records: row - firstRow, hash: hexOf(inputHash) };
    pinned.push({ name: input.name, ...looked, ...pin });
  }
  if (row > 0 && !hasText) throw seen.missing('text', fields.text);
  seen.check();
  const shards = cutter.end();
  const planned = { textCount: row, inputs: pinned, ...kinds.columns(), shards };
  return { planned, repeated: ids.repeated };
}

/**
 * Cuts the records of all inputs into parts. A part goes on over the end of an input, so that a
 * hundred thousand files of three texts are no hundred thousand parts and requests.
 */
class ShardCutter {
  readonly #limits: ShardLimits;
  readonly #shards: ShardEntry[] = [];
  #start: readonly [input: number, position: Position] = [0, 0];
  #count = 0;
  #characters = 0;
  #hash = 0n;

  constructor(limits: ShardLimits) {
    this.#limits = limits;
  }

  /** @returns whether the record is the first of a part. */
  add(next: { input: number; position: Position; record: CorpusRecord; hash: bigint }): boolean {
    const { text, group } = next.record;
    const { partTextsMax, partCharactersMax } = this.#limits;
    const isFull =
      this.#count >= partTextsMax ||
      (this.#count > 0 && this.#characters + text.length > partCharactersMax);
    // The texts of one request stay together, over either bound.
    if (isFull && (group?.index ?? 0) === 0) this.#cut();
    if (this.#count === 0) this.#start = [next.input, next.position];
    this.#count++;
    this.#characters += text.length;
    this.#hash = chainHash(this.#hash, next.hash);
    return this.#count === 1;
  }

  /** @returns all parts, once the last record was added. */
  end(): readonly ShardEntry[] {
    if (this.#count > 0) this.#cut();
    return this.#shards;
  }

  #cut(): void {
    this.#shards.push([...this.#start, this.#count, hexOf(this.#hash)]);
    this.#count = 0;
    this.#characters = 0;
    this.#hash = 0n;
  }
}

/** The ids of the part that is being cut, each with the record that had it first. */
class PartIds {
  /** Records are counted from 1, in their input. */
  readonly #records = new Map<string, { readonly record: number; readonly input: string }>();
  #input = '';
  #record = 0;
  #count = 0;
  #first = '';

  begin(input: string): void {
    this.#input = input;
    this.#record = 0;
  }

  clear(): void {
    this.#records.clear();
  }

  add({ id, group }: CorpusRecord): void {
    const record = ++this.#record;
    // The texts of one request have its id in common.
    if (id === null || (group?.index ?? 0) > 0) return;
    const name = String(id);
    const before = this.#records.get(name);
    if (before === undefined) {
      this.#records.set(name, { record, input: this.#input });
      return;
    }
    this.#count++;
    this.#first ||=
      before.input === this.#input
        ? `${name} in records ${before.record} and ${record} of ${before.input}`
        : `${name} in record ${before.record} of ${before.input} and ${record} of ${this.#input}`;
  }

  get repeated(): RepeatedIds | undefined {
    return this.#count === 0 ? undefined : { count: this.#count, first: this.#first };
  }
}

/** What people are told of them. */
export function describeRepeated({ count, first }: RepeatedIds): string {
  const more = count === 1 ? '' : ` (${count} such records)`;
  return `an id comes again within its part: ${first}${more}`;
}

class ColumnKinds {
  readonly #fields: RecordFields;
  #id: ColumnKind | undefined;
  readonly #carried: (ColumnKind | undefined)[];

  constructor(fields: RecordFields) {
    this.#fields = fields;
    this.#carried = fields.carry.map(() => undefined);
  }

  widen({ id, carried }: CorpusRecord): void {
    this.#id = widenKind(this.#id, id);
    for (let index = 0; index < carried.length; index++) {
      this.#carried[index] = widenKind(this.#carried[index], carried[index]);
    }
  }

  columns(): Pick<PlannedShards, 'id' | 'carried'> {
    // Ids that are numbers here and words there are words.
    const idKind = this.#id === 'int64' ? 'int64' : 'string';
    return {
      id: { name: 'id', kind: idKind },
      carried: this.#fields.carry.map((name, index) => ({
        name,
        kind: this.#carried[index] ?? 'string',
      })),
    };
  }
}

/** The fields as flags name them, one object deep. */
function namesOf(fields: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(fields).flatMap(([name, value]) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.keys(value).map((inner) => `${name}.${inner}`)
      : [name],
  );
}

/** Which of the fields that were asked for there are: one that no record has is a wrong name. */
class SeenFields {
  readonly #fields: RecordFields;
  readonly #isCarried: boolean[];
  #hasId = false;
  #first: { input: SourceInput; names: readonly string[] } | undefined;
  #firstFault: { input: SourceInput; fault: string } | undefined;

  constructor(fields: RecordFields) {
    this.#fields = fields;
    this.#isCarried = fields.carry.map(() => false);
  }

  add(input: SourceInput, { fields, fault }: RawRecord, { id, carried }: CorpusRecord): void {
    if (fault !== undefined) this.#firstFault ??= { input, fault };
    if (fields === undefined) return;
    this.#first ??= { input, names: namesOf(fields) };
    this.#hasId ||= id !== null;
    for (let index = 0; index < carried.length; index++) {
      const name = this.#fields.carry[index] ?? '';
      // A null is a value; of a field within an object, the object is what is looked for.
      const isThere =
        Object.hasOwn(fields, name) || Object.hasOwn(fields, name.split('.')[0] ?? '');
      if (carried[index] === null && !isThere) continue;
      this.#isCarried[index] = true;
    }
  }

  /** @throws CorpusError CORPUS_SOURCE_INVALID that names the flag and the fields that there are. */
  check(): void {
    const { id, carry } = this.#fields;
    if (this.#first === undefined) return;
    if (id !== undefined && !this.#hasId) throw this.missing('id', [id]);
    const absent = carry.filter((_, index) => !this.#isCarried[index]);
    if (absent.length > 0) throw this.missing('carry', absent);
  }

  missing(flag: 'text' | 'id' | 'carry', asked: readonly string[]): CorpusError {
    const { names = [] } = this.#first ?? {};
    const { input } = this.#first ?? this.#firstFault ?? {};
    const there = names.length > 0 ? ` A record has ${names.slice(0, 20).join(', ')}.` : '';
    const found = flag === 'text' ? 'no text in any of the first records' : 'not in any record';
    const from = input === undefined ? '' : ` of ${input.name}`;
    // Where no record could be read, that is why.
    const why =
      this.#first === undefined && this.#firstFault
        ? `: ${withAdvice(this.#firstFault.fault)}`
        : '';
    const message = `--${flag} ${asked.join(',')}: ${found}${from}${why}.${there}`;
    return new CorpusError('CORPUS_SOURCE_INVALID', message);
  }
}

function withAdvice(fault: string): string {
  return fault.includes('is not UTF-8') ? `${fault}; ${UTF8_ADVICE}` : fault;
}
