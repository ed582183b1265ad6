import { Readable } from 'node:stream';
import { type Options as CsvOptions, parse } from 'csv-parse';
import { CorpusError, wordsOf } from '../corpus-error.ts';
import { type ByteInput, type Compression, unreadable } from './byte-input.ts';
import { counted } from './formats.ts';
import { LINE_BYTES_MAX } from './lines.ts';
import type { RawRecord, SourceInput } from './source.ts';
import { textBytes, UTF8_ADVICE, withHeader } from './text-bytes.ts';

/** What separates the fields of a `.csv`: the first of them that its header has. */
const DELIMITERS = [',', ';', '\t', '|'] as const;

/** A first line by which spreadsheets tell one another what separates. */
const TOLD_DELIMITER = /^"?sep=(.)"?\r?$/i;

/**
 * Comma- or tab-separated values whose first line names the fields. As files of people are: a quote
 * in the middle of a field is a letter, records may be short, lines end in either way, and lines of
 * empty fields are none. A record with more fields than there are names costs itself.
 *
 * @param options.delimiter `,` stands for whatever the header of a `.csv` has. Of files of tabs
 *   some programs quote as CSV does, others write a quote as text: the start of the file tells.
 * @param options.columns those that are read: two of one name are refused.
 * @param options.bytesMax a longer record ends the reading: as a rule a quote was not closed.
 */
export function separatedInput(
  input: ByteInput,
  options: {
    compression: Compression;
    delimiter: ',' | '\t';
    columns?: readonly string[];
    bytesMax?: number;
  },
): SourceInput {
  const { compression, columns = [], bytesMax = LINE_BYTES_MAX } = options;
  return counted(input, async function* () {
    const isOfTabs = options.delimiter === '\t';
    const startBytes = isOfTabs ? SAMPLE_BYTES : 0;
    const first = await withHeader(textBytes(input, compression), startBytes);
    const [, told] = TOLD_DELIMITER.exec(first.header) ?? [];
    const { header, hasFeed, bytes, ...sample } =
      told === undefined ? first : await withHeader(withoutLine(first.bytes), startBytes);
    const csv: CsvOptions = {
      // A letter for each byte: the parser would put another one for bytes that are not UTF-8.
      encoding: 'latin1',
      delimiter: told ?? (isOfTabs ? options.delimiter : delimiterOf(header)),
      ...(isOfTabs && !isQuoted(sample) ? { quote: null } : {}),
      // Old files of a Macintosh have no line feed: the parser finds what ends their lines.
      ...(hasFeed ? { record_delimiter: ['\r\n', '\n'] } : {}),
      relax_quotes: true,
      relax_column_count: true,
      skip_empty_lines: true,
      skip_records_with_empty_values: true,
      max_record_size: bytesMax,
    };
    yield* recordsOf(input, { bytes, csv, columns });
  });
}

/** Of a file of tabs, what tells whether it quotes. */
const SAMPLE_BYTES = 1 << 18;

/** A field in quotes, those within it doubled; and one that the end of a sample cuts. */
const QUOTED = /(^|[\t\n])"[^"]*(?:""[^"]*)*"(?=[\t\r\n]|$)/g;
const QUOTED_CUT = /(^|[\t\n])"[^"]*(?:""[^"]*)*$/;

/**
 * Whether a file of tabs quotes as CSV does: some of its fields are in quotes, and no quote is
 * elsewhere. Who quotes puts every field with a quote in it into quotes.
 */
function isQuoted({ start, isWhole }: { start: string; isWhole: boolean }): boolean {
  const others = start.replace(QUOTED, '$1');
  if (others === start) return false;
  return !(isWhole ? others : others.replace(QUOTED_CUT, '')).includes('"');
}

/** A delimiter within quotes belongs to a name. */
function delimiterOf(header: string): string {
  const plain = header.replace(/"[^"]*"/g, '');
  return DELIMITERS.find((delimiter) => plain.includes(delimiter)) ?? ',';
}

/** @param all the first piece has the whole line. */
async function* withoutLine(
  all: AsyncGenerator<Uint8Array, void, undefined>,
): AsyncGenerator<Uint8Array, void, undefined> {
  let isFirst = true;
  for await (const piece of all) {
    yield isFirst ? piece.subarray(piece.indexOf(0x0a) + 1) : piece;
    isFirst = false;
  }
}

async function* recordsOf(
  input: ByteInput,
  options: {
    bytes: AsyncGenerator<Uint8Array, void, undefined>;
    csv: CsvOptions;
    columns: readonly string[];
  },
): AsyncGenerator<Omit<RawRecord, 'position'>, void, undefined> {
  const { bytes, csv, columns } = options;
  const readable = Readable.from(bytes, { objectMode: false });
  const parser = parse(csv);
  readable.on('error', (error) => parser.destroy(error));
  let names: readonly string[] | undefined;
  try {
    for await (const values of readable.pipe(parser) as AsyncIterable<string[]>) {
      if (names === undefined) names = namesOf(values, columns);
      else yield recordOf(names, values);
    }
  } catch (error) {
    throw error instanceof CorpusError ? error : unreadable(input, explained(error));
  }
}

/** @throws Error where a column that is read has its name twice, or a name is not UTF-8. */
function namesOf(values: readonly string[], columns: readonly string[]): readonly string[] {
  let names: readonly string[];
  try {
    names = values.map((value) => utf8Of(value).trim());
  } catch {
    throw new Error(`its header is not UTF-8; ${UTF8_ADVICE}`);
  }
  const twice = columns.find((name) => names.indexOf(name) !== names.lastIndexOf(name));
  if (twice !== undefined) throw new Error(`two of its columns are named ${twice}`);
  return names;
}

function recordOf(
  names: readonly string[],
  values: readonly string[],
): Omit<RawRecord, 'position'> {
  // Some programs end each line with delimiters.
  if (values.length > names.length && values.slice(names.length).some((value) => value !== '')) {
    const fault = `the record has ${values.length} fields, the header ${names.length}`;
    return { fields: undefined, fault };
  }
  try {
    const fields: Record<string, unknown> = {};
    for (let index = 0; index < names.length; index++) {
      const value = values[index];
      if (value !== undefined) fields[names[index] as string] = utf8Of(value);
    }
    return { fields };
  } catch {
    return { fields: undefined, fault: 'the record is not UTF-8' };
  }
}

function explained(error: unknown): unknown {
  // It has counted the header as well, so the one after is the record itself.
  const { code, records: record } = error as { code?: string; records?: number };
  if (code !== 'CSV_QUOTE_NOT_CLOSED' && code !== 'CSV_MAX_RECORD_SIZE') return error;
  return new Error(`a quote that record ${record} opens is not closed (${wordsOf(error)})`);
}

const utf8Decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** @param latin1 a letter for each byte. @throws TypeError where those are not UTF-8. */
function utf8Of(latin1: string): string {
  return utf8Decoder.decode(Buffer.from(latin1, 'latin1'));
}
