import { JSONParser } from '@streamparser/json';
import { CorpusError } from '../corpus-error.ts';
import {
  type ByteInput,
  type Compression,
  lookAtAll,
  unpackedBytes,
  unreadable,
} from './byte-input.ts';
import { exactNumber, parseExactJson } from './exact-json.ts';
import { collectAfter, LINE_BYTES_MAX, linesOf } from './lines.ts';
import type { RawRecord, SourceInput } from './source.ts';
import { foreignOf, textBytes, UTF8_ADVICE, withHeader } from './text-bytes.ts';

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
      // Where marked files were joined, the mark of each stands before its first line.
      const value = parseExactJson(text.startsWith('\uFEFF') ? text.slice(1) : text);
      if (isObject(value)) return { fields: value };
      return typeof value === 'string'
        ? { fields: { text: value } }
        : { fields: undefined, fault: `the line is no JSON object${reasonOf(text)}` };
    } catch {
      return { fields: undefined, fault: `the line is not JSON${reasonOf(text)}` };
    }
  });
}

/** What programs write that is no JSON, or not a record a line. */
const REASONS: readonly (readonly [looks: RegExp, reason: string])[] = [
  [/^\s*\[/, ': it begins as an array, which --input-format json reads'],
  [/,\s*$/, ': a comma ends it'],
  [/[:[,]\s*(NaN|-?Infinity)\s*[,\]}]/, ': it has NaN or Infinity, which JSON has not'],
  [/\}\s*\{/, ': it seems to have several objects'],
];

function reasonOf(text: string): string {
  return REASONS.find(([looks]) => looks.test(text))?.[1] ?? '';
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
    look: () => input.look(),
    isSeekable,
    async *read(from = 0) {
      const start = isSeekable ? Number(from) : 0;
      const bytes = start > 0 ? input.open(start) : textBytes(input, compression);
      for await (const lines of linesOf(guarded(bytes, input.name), { start })) {
        const records: RawRecord[] = [];
        for (const { start: position, text, fault: why } of lines) {
          collectAfter(text?.length ?? 0);
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

/**
 * One text a file, with the file's name as `path`. Neighbouring files are one input: a part for
 * each would be a request for each text, and a folder of documents would take its servers weeks.
 * Positions are counts of files.
 *
 * @param files at least one.
 * @param bytesMax a larger one has a fault in place of its text.
 */
export function documentsInput(
  files: readonly { readonly bytes: ByteInput; readonly compression: Compression }[],
  bytesMax = LINE_BYTES_MAX,
): SourceInput {
  const names = files.map(({ bytes }) => bytes.name);
  const many = `${names.length} files from ${names[0]} to ${names.at(-1)}`;
  return {
    name: names.length === 1 ? (names[0] as string) : many,
    isSeekable: true,
    async look() {
      const looked = await lookAtAll(files.map((file) => file.bytes));
      const bytes = looked.reduce((sum, file) => sum + file.bytes, 0);
      const versions = looked.map(({ version }) => version);
      if (versions.length === 1) return { bytes, version: versions[0] as string };
      const hash = Bun.hash.xxHash64(JSON.stringify([names, versions]));
      return { bytes, version: `xxh64:${hash.toString(16)}` };
    },
    async *read(from = 0) {
      for (let position = Number(from); position < files.length; position++) {
        const { bytes, compression } = files[position] as (typeof files)[number];
        const pieces: Uint8Array[] = [];
        let length = 0;
        for await (const piece of unpackedBytes(bytes, compression)) {
          length += piece.length;
          if (length > bytesMax) break;
          pieces.push(piece);
        }
        const fault = `${bytes.name} has more than ${bytesMax} bytes`;
        const record =
          length > bytesMax
            ? { fields: undefined, fault }
            : documentOf(bytes.name, Buffer.concat(pieces));
        yield [{ position, ...record }];
      }
    },
  };
}

function documentOf(path: string, content: Uint8Array): Omit<RawRecord, 'position'> {
  const foreign = foreignOf(content);
  if (foreign !== undefined) return { fields: undefined, fault: `${path} is ${foreign}` };
  try {
    return { fields: { text: new TextDecoder('utf-8', { fatal: true }).decode(content), path } };
  } catch {
    return { fields: undefined, fault: `${path} is not UTF-8` };
  }
}

/** An array of JSON objects, or of strings. */
export function jsonArrayInput(input: ByteInput, compression: Compression): SourceInput {
  return counted(input, async function* () {
    let elements: unknown[] = [];
    const parser = new JSONParser({ paths: ['$.*'], keepStack: false });
    // Its own would make one of two ids beyond 2^53; it has no option for that.
    const { tokenizer } = parser as unknown as {
      readonly tokenizer: { parseNumber: (digits: string) => unknown };
    };
    tokenizer.parseNumber = (digits) => exactNumber(Number(digits), digits);
    parser.onValue = ({ value, stack }) => {
      // An element of the outermost array: objects have `$.*` of their own.
      if (stack.length === 1) elements.push(value);
    };
    let failure: unknown;
    parser.onError = (error) => {
      failure ??= error;
    };
    const { header, bytes } = await withHeader(textBytes(input, compression));
    if (header.trimStart().startsWith('{')) {
      const why = 'it is no JSON array but an object; --input-format jsonl reads an object a line';
      throw unreadable(input, new Error(why));
    }
    for await (const piece of checkedUtf8(input, bytes)) {
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

/** @throws CorpusError CORPUS_SOURCE_INVALID; the parser would put other letters in silence. */
async function* checkedUtf8(
  input: ByteInput,
  bytes: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, undefined> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  for await (const piece of bytes) {
    try {
      decoder.decode(piece, { stream: true });
    } catch {
      throw unreadable(input, new Error(`it is not UTF-8; ${UTF8_ADVICE}`));
    }
    yield piece;
  }
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
    look: () => input.look(),
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

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
