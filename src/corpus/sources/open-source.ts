import { CorpusError } from '../corpus-error.ts';
import type { CorpusContext, CorpusOptions } from '../corpus-options.ts';
import type { RecordFields } from '../job/records.ts';
import { isPostgresAddress } from '../stores/postgres.ts';
import { openS3Bucket, parseS3Address, type S3Bucket, type S3Object } from '../stores/s3-bucket.ts';
import { type ByteInput, compressionOf, LocalFile } from './byte-input.ts';
import {
  documentsInput,
  INPUT_FORMATS,
  type InputFormat,
  jsonArrayInput,
  jsonLinesInput,
  openaiBatchInput,
  textLinesInput,
} from './formats.ts';
import { FolderFiles, isData, isOutputOf, localPaths } from './local-files.ts';
import { parquetInput } from './parquet-input.ts';
import { withPathPartitions } from './path-partitions.ts';
import { openPostgresSource } from './postgres-source.ts';
import { ReadAhead } from './read-ahead.ts';
import { separatedInput } from './separated-input.ts';
import type { InputVersion, Source, SourceInput } from './source.ts';

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
 * Finds what the addresses name: files, folders, globs, objects of a bucket; or a table. Inputs
 * stand in the order of the addresses, and within a folder or a glob in that of their names' bytes.
 *
 * @throws CorpusError CORPUS_SOURCE_INVALID that names the address.
 */
export async function openSource(options: CorpusOptions, context: CorpusContext): Promise<Source> {
  const [first = ''] = options.sources;
  const say = (words: string): void => void context.terminal.write(`embed: ${words}\n`);
  if (isPostgresAddress(first)) return openPostgresSource(options, say);
  const files: ByteInput[] = [];
  for (const address of options.sources) {
    const found = address.startsWith('s3://')
      ? await objectsOf(address, { ...context, say, patienceMs: options.patienceMs })
      : (await localPaths(address, isTextFile, say)).map((path) => new LocalFile(path));
    files.push(...found);
  }
  const ahead = new ReadAhead(options.sources.length > 1 ? eachOnce(files) : files, context.signal);
  return { inputs: inputsOf(ahead.files, options), close: () => ahead.close() };
}

/** Without those that are named again: each record has one row. */
function eachOnce(files: readonly ByteInput[]): readonly ByteInput[] {
  return [...new Map(files.toReversed().map((file) => [file.name, file])).values()].toReversed();
}

/** Documents of one input: as many as one part has texts, unless it is told otherwise. */
const DOCUMENTS_MAX = 4096;

/** Files in their order; documents that follow one another are one input. */
function inputsOf(files: readonly ByteInput[], options: CorpusOptions): SourceInput[] {
  const inputs: SourceInput[] = [];
  let documents: ByteInput[] = [];
  const endDocuments = (): void => {
    if (documents.length === 0) return;
    inputs.push(
      documentsInput(documents.map((bytes) => ({ bytes, ...compressionOf(bytes.name) }))),
    );
    documents = [];
  };
  for (const bytes of files) {
    const format = formatOf(bytes, options);
    if (format === 'document') documents.push(bytes);
    if (format !== 'document' || documents.length === DOCUMENTS_MAX) endDocuments();
    if (format !== 'document') {
      const columns = topLevel(options.fields);
      inputs.push(withPathPartitions(inputOf(bytes, format, { columns }), columns));
    }
  }
  endDocuments();
  return inputs;
}

/** An object, all below a prefix that ends in a slash, or the matches of a glob. */
async function objectsOf(
  address: string,
  context: CorpusContext & { say: (words: string) => void; patienceMs: number },
): Promise<readonly ByteInput[]> {
  const { say } = context;
  const { bucket, key } = parseS3Address(address);
  const opened = openS3Bucket({ ...context, bucket, code: 'CORPUS_SOURCE_INVALID' });
  const start = /^[^*?[{]*/.exec(key)?.[0] ?? '';
  // A key may have such letters in it.
  const named = start === key ? undefined : await opened.look(key);
  const isPrefix = start === key && /(^|\/)$/.test(key);
  const folder = new FolderFiles(address, isTextFile);
  if (named !== undefined) return [new BucketObject(opened, named)];
  const glob = new Bun.Glob(key);
  const listed = await opened.list(start);
  const keys = new Set(listed.map((object) => object.key));
  const objects: S3Object[] = [];
  for (const object of listed) {
    // An object of that name is how consoles make a folder.
    if (object.key.endsWith('/')) continue;
    const isMatch = start !== key && isData(object.key) && glob.match(object.key);
    const isAsked = isPrefix ? folder.has(object.key) : isMatch;
    const isOutput = isAsked && (await isOutputOf(object.key, async (name) => keys.has(name)));
    if (object.key === key || (isAsked && !isOutput)) objects.push(object);
  }
  const leftOut = await folder.leftOut(async () => true);
  if (leftOut !== undefined) say(leftOut);
  if (objects.length > 0) return objects.map((object) => new BucketObject(opened, object));
  const message = `${address}: no such object, prefix (it ends in /) or match.`;
  throw new CorpusError('CORPUS_SOURCE_INVALID', message);
}

/** An object. The listing tells what a look at each would: of 5,000 objects, in 5 requests. */
class BucketObject implements ByteInput {
  readonly #bucket: S3Bucket;
  readonly #object: S3Object;

  constructor(bucket: S3Bucket, object: S3Object) {
    this.#bucket = bucket;
    this.#object = object;
  }

  get name(): string {
    return `s3://${this.#bucket.name}/${this.#object.key}`;
  }

  async look(): Promise<InputVersion> {
    return { bytes: this.#object.bytes, version: `etag:${this.#object.etag}` };
  }

  async length(): Promise<number> {
    const object = await this.#bucket.look(this.#object.key);
    if (object !== undefined) return object.bytes;
    throw new CorpusError('CORPUS_SOURCE_INVALID', `${this.name} is no longer there.`);
  }

  open(from: number, to?: number, signal?: AbortSignal): AsyncIterable<Uint8Array> {
    return this.#bucket.open(this.#object.key, { from, to, signal });
  }
}

/** Ends of names whose bytes no --input-format would make texts of. */
const FOREIGN_NAME = new RegExp(
  '\\.(bz2|xz|lz4|lzo|br|snappy|deflate|z|zip|7z|rar|tar(\\.\\w+)?|tgz|xlsx?|docx?|pdf|avro|orc|arrow|' +
    'feather|sqlite3?|db)$',
  'i',
);

/** As the flag says, or the file's name. */
function formatOf({ name }: ByteInput, options: CorpusOptions): InputFormat {
  const format = options.inputFormat ?? formatOfName(name);
  if (format !== undefined) return format;
  const known = INPUT_FORMATS.join(', ');
  const message = FOREIGN_NAME.test(name)
    ? `${name} is packed in a way, or of a kind, that is not read: unpack it, or save it as text.`
    : `${name}: its name does not say what it is; give --input-format (${known}).`;
  throw new CorpusError('CORPUS_SOURCE_INVALID', message);
}

function formatOfName(name: string): InputFormat | undefined {
  const ending = /\.(\w+)$/.exec(compressionOf(name).plainName)?.[1]?.toLowerCase() ?? '';
  return FORMAT_OF_ENDING[ending];
}

/** The input that reads these bytes. */
function inputOf(
  bytes: ByteInput,
  format: Exclude<InputFormat, 'document'>,
  { columns }: { columns: readonly string[] },
): SourceInput {
  const { compression } = compressionOf(bytes.name);
  switch (format) {
    case 'jsonl':
      return jsonLinesInput(bytes, compression);
    case 'openai-batch':
      return openaiBatchInput(bytes, compression);
    case 'json':
      return jsonArrayInput(bytes, compression);
    case 'csv':
      return separatedInput(bytes, { compression, delimiter: ',', columns });
    case 'tsv':
      return separatedInput(bytes, { compression, delimiter: '\t', columns });
    case 'text':
      return textLinesInput(bytes, compression);
    case 'parquet':
      return parquetInput(bytes, { columns });
  }
}

/** The columns at the top level that the job reads. */
function topLevel({ text, id, carry }: RecordFields): string[] {
  const fields = [...text, ...(id === undefined ? [] : [id]), ...carry];
  return [...new Set(fields.flatMap((field) => [field, field.split('.')[0] as string]))];
}

/** In a folder lie other things too; what is named by itself is read whatever its name. */
function isTextFile(path: string): boolean {
  return formatOfName(path) !== undefined;
}
