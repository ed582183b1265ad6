import { Readable } from 'node:stream';
import { JSONParser } from '@streamparser/json';
import { type Options as CsvOptions, parse } from 'csv-parse';
import { CorpusError, wordsOf } from '../corpus-error.ts';
import { type ByteInput, type Compression, unpackedBytes } from './byte-input.ts';
import { linesOf } from './lines.ts';
import type { RawRecord, SourceInput } from './source.ts';

/** How a file's texts are laid out. */
export const INPUT_FORMATS = [
  'jsonl',
  'json',
  'csv',
  'tsv',
  'text',
  'document',
  'parquet',
  'openai-batch',
] as const;
/** One of them. */
export type InputFormat = (typeof INPUT_FORMATS)[number];

/** Records that are handed on together, where the format does not group them by itself. */
const BATCH_RECORDS = 256;

/** JSON Lines: an object a line. Its positions are bytes, unless it is packed. */
export function jsonLinesInput(input: ByteInput, compression: Compression): SourceInput {
  return lineInput(input, compression, (text): Omit<RawRecord, 'position'> | undefined => {
    // Blank lines are how people end files and part them.
    if (text.trim() === '') return undefined;
    try {
      const value = parseExact(text);
      if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
        return { fields: value as Record<string, unknown> };
      }
      return typeof value === 'string'
        ? { fields: { text: value } }
        : { fields: undefined, fault: 'the line is no JSON object' };
    } catch {
      return { fields: undefined, fault: 'the line is not JSON' };
    }
  });
}

/**
 * JSON whose outermost integers keep all their digits: beyond 2^53 two ids would become one. What
 * 64 bits do not hold either becomes a string.
 */
function parseExact(text: string): unknown {
  const value: unknown = JSON.parse(text);
  if (!isObject(value)) return value;
  for (const name in value) {
    if (isInexact(value[name])) return JSON.parse(text, exactNumber);
  }
  return value;
}

function exactNumber(_: string, value: unknown, { source }: { source?: string } = {}): unknown {
  if (!isInexact(value) || source === undefined || !/^-?\d+$/.test(source)) return value;
  const exact = BigInt(source);
  return BigInt.asIntN(64, exact) === exact ? exact : source;
}

function isInexact(value: unknown): boolean {
  return Number.isInteger(value) && !Number.isSafeInteger(value);
}

/** Plain text, a text a line; blank lines are left out. */
export function textLinesInput(input: ByteInput, compression: Compression): SourceInput {
  return lineInput(input, compression, (text) =>
    text.trim() === '' ? undefined : { fields: { text } },
  );
}

/**
 * Requests of an OpenAI batch, one a line. A list of inputs becomes neighbouring records, which
 * know of one another.
 */
export function openaiBatchInput(input: ByteInput, compression: Compression): SourceInput {
  const lines = jsonLinesInput(input, compression);
  return {
    ...lines,
    async *read(from) {
      for await (const records of lines.read(from)) yield records.flatMap(inputsOf);
    },
  };
}

function inputsOf(record: RawRecord): readonly RawRecord[] {
  const { fields, position } = record;
  const body = fields?.body;
  if (!isObject(body) || !Array.isArray(body.input) || body.input.length < 2) return [record];
  const inputs: readonly unknown[] = body.input;
  // Token ids are one input, and not many.
  if (typeof inputs[0] === 'number') return [record];
  return inputs.map((input, index) => ({
    position,
    fields: { ...fields, body: { ...body, input } },
    group: { index, count: inputs.length },
  }));
}

function lineInput(
  input: ByteInput,
  compression: Compression,
  recordOf: (text: string) => Omit<RawRecord, 'position'> | undefined,
): SourceInput {
  const isSeekable = compression === undefined;
  return {
    name: input.name,
    look: input.look,
    isSeekable,
    async *read(from = 0) {
      const start = isSeekable ? Number(from) : 0;
      const bytes = isSeekable ? input.open(start) : unpackedBytes(input, compression);
      for await (const lines of linesOf(guarded(bytes, input.name), { start })) {
        const records: RawRecord[] = [];
        for (const { start: position, text, fault: why } of lines) {
          const record = text === undefined ? { fields: undefined, fault: why } : recordOf(text);
          if (record === undefined || position < Number(from)) continue;
          const { fields, fault } = record;
          if (fault === undefined) records.push({ position, fields });
          else records.push({ position, fields, fault: `${fault} (from byte ${position} on)` });
        }
        if (records.length > 0) yield records;
      }
    },
  };
}

/** One text a file, with the file's name as `path`. */
export function documentInput(input: ByteInput, compression: Compression): SourceInput {
  return counted(input, async function* () {
    const pieces: Uint8Array[] = [];
    for await (const piece of unpackedBytes(input, compression)) pieces.push(piece);
    try {
      const text = new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(pieces));
      yield { fields: { text, path: input.name } };
    } catch {
      yield { fields: undefined, fault: 'the file is not UTF-8' };
    }
  });
}

/** An array of JSON objects, or of strings. */
export function jsonArrayInput(input: ByteInput, compression: Compression): SourceInput {
  return counted(input, async function* () {
    let elements: unknown[] = [];
    const parser = new JSONParser({ paths: ['$.*'], keepStack: false });
    parser.onValue = ({ value, stack }) => {
      // An element of the outermost array: objects have `$.*` of their own.
      if (stack.length === 1) elements.push(value);
    };
    let failure: unknown;
    parser.onError = (error) => {
      failure ??= error;
    };
    for await (const piece of unpackedBytes(input, compression)) {
      parser.write(piece);
      if (failure !== undefined) throw unreadable(input, failure);
      for (const element of elements) {
        yield isObject(element)
          ? { fields: element }
          : typeof element === 'string'
            ? { fields: { text: element } }
            : { fields: undefined, fault: 'the element is no JSON object' };
      }
      elements = [];
    }
    if (!parser.isEnded) throw unreadable(input, new Error('the JSON breaks off'));
  });
}

/** Comma- or tab-separated values whose first line names the fields. */
export function separatedInput(
  input: ByteInput,
  options: { compression: Compression; delimiter: ',' | '\t' },
): SourceInput {
  const { compression, delimiter } = options;
  const csv: CsvOptions = {
    columns: true,
    bom: true,
    delimiter,
    // A tab-separated file quotes nothing: a lone quote is text.
    ...(delimiter === '\t' ? { quote: null } : {}),
    skip_empty_lines: true,
  };
  return counted(input, async function* () {
    const bytes = Readable.from(unpackedBytes(input, compression), { objectMode: false });
    const parser = parse(csv);
    bytes.on('error', (error) => parser.destroy(error));
    try {
      for await (const fields of bytes.pipe(parser)) yield { fields };
    } catch (error) {
      throw error instanceof CorpusError ? error : unreadable(input, error);
    }
  });
}

/**
 * An input whose positions are counts of records: to come to one it reads what is before it.
 */
export function counted(
  input: Pick<SourceInput, 'name' | 'look'>,
  records: () => AsyncIterable<Omit<RawRecord, 'position'>>,
): SourceInput {
  return {
    name: input.name,
    look: input.look,
    isSeekable: false,
    async *read(from = 0) {
      let position = 0;
      let batch: RawRecord[] = [];
      for await (const record of records()) {
        if (position >= Number(from)) batch.push({ position, ...record });
        position++;
        if (batch.length < BATCH_RECORDS) continue;
        yield batch;
        batch = [];
      }
      if (batch.length > 0) yield batch;
    },
  };
}

async function* guarded(
  bytes: AsyncIterable<Uint8Array>,
  name: string,
): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    yield* bytes;
  } catch (error) {
    throw error instanceof CorpusError ? error : unreadable({ name }, error);
  }
}

/** An input that is not what it says it is. */
export function unreadable({ name }: { name: string }, error: unknown): CorpusError {
  const message = `${name} cannot be read: ${wordsOf(error)}.`;
  return new CorpusError('CORPUS_SOURCE_INVALID', message, error);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
