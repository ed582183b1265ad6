import { shortened } from '../base/shortened.ts';
import { CHUNK_TOKENS_LEAST, chunkProblem } from './chunks/chunk-options.ts';
import { CorpusError } from './corpus-error.ts';
import type { CorpusOptions } from './corpus-options.ts';
import type { QueueFlags } from './queue/queued-corpus.ts';
import { INPUT_FORMATS } from './sources/formats.ts';
import { hasPassword, isPostgresAddress } from './stores/postgres.ts';

/** One flag: how its value is shown, what stands for it when it is left out, what it does. */
interface Flag {
  /** Undefined: a switch. */
  readonly value: string | undefined;
  readonly fallback: string;
  readonly meaning: string;
}

// biome-ignore format: one flag, one line: a table is read by its columns.
/** Every flag of `embed`; the help is made of it. */
export const FLAGS = {
  to: { value: 'DEST', fallback: '', meaning: 'where to: a folder, s3://bucket/prefix or postgres://user@host/database' },
  format: { value: 'NAME', fallback: 'parquet', meaning: 'parquet, jsonl, npy, or openai-batch: result lines of a batch' },
  'to-table': { value: 'TABLE', fallback: 'embeddings', meaning: 'table of a postgres:// destination' },
  'to-column': { value: 'COLUMN', fallback: '', meaning: 'fill this vector column of that table, by its column of the name of --id, or id' },
  text: { value: 'FIELD', fallback: 'text', meaning: 'field or column of the text; a.b goes into objects, a,b joins two' },
  id: { value: 'FIELD', fallback: '', meaning: 'field of the id; without it, the number of the row from 0' },
  carry: { value: 'FIELDS', fallback: '', meaning: 'further fields for the output, comma-separated' },
  'input-format': { value: 'NAME', fallback: '', meaning: `${INPUT_FORMATS.join(', ')}; by default the file's name says it` },
  table: { value: 'TABLE', fallback: '', meaning: 'table of a postgres:// source, or a query in brackets' },
  heads: { value: 'HEADS', fallback: 'dense', meaning: 'dense, sparse, multi_vector; comma-separated' },
  dtype: { value: 'NAME', fallback: 'float32', meaning: 'float32 or float16' },
  'input-type': { value: 'NAME', fallback: 'passage', meaning: 'passage or query: which prefix of the model stands in front' },
  'no-truncate': { value: undefined, fallback: '', meaning: 'a text that is too long is an error instead of being cut' },
  'chunk-tokens': { value: 'N', fallback: '', meaning: 'cut each text into chunks of at most N tokens; each is a row of its own' },
  'chunk-overlap': { value: 'M', fallback: '0', meaning: 'tokens, about, of the end of a chunk that come again in the next; less than half of N' },
  'chunk-text': { value: undefined, fallback: '', meaning: 'a column chunk_text beside chunk, chunk_start, chunk_end (in Unicode code points)' },
  url: { value: 'URLS', fallback: '', meaning: 'servers that run, comma-separated; without it, one is started' },
  'api-key-file': { value: 'FILE', fallback: '', meaning: 'file whose first line is the key of those servers' },
  concurrency: { value: 'N', fallback: '8', meaning: 'requests at the same time to each server' },
  'request-texts': { value: 'N', fallback: '128', meaning: 'texts in one request, at most; 256 go faster over a very fast model' },
  'part-texts': { value: 'N', fallback: '4096', meaning: 'texts in one part, at most; a kill costs the parts that are begun' },
  'part-characters': { value: 'N', fallback: '8388608', meaning: 'characters in one part, at most' },
  'errors-in-row-max': { value: 'N', fallback: '100', meaning: 'so many failed texts in a row stop the job' },
  patience: { value: 'SECONDS', fallback: '600', meaning: 'how long to wait while no server, or the bucket, answers' },
  'progress-file': { value: 'FILE', fallback: '', meaning: 'state for a watcher, each second: JSON, or Prometheus text as *.prom' },
  queue: { value: 'URL', fallback: '', meaning: 'deal out the parts over NATS JetStream: nats://host:4222' },
  worker: { value: undefined, fallback: '', meaning: 'work on the jobs of --queue until none is left' },
  stay: { value: undefined, fallback: '', meaning: 'of a worker: wait for further jobs, until it is told to end' },
  lease: { value: 'SECONDS', fallback: '60', meaning: 'a worker that is silent for so long has lost its part' },
  'tries-max': { value: 'N', fallback: '5', meaning: 'a part that has failed so often is dealt out no more' },
  plan: { value: undefined, fallback: '', meaning: 'count texts, tokens, bytes and time, and encode nothing' },
  'tokens-per-second': { value: 'N', fallback: '', meaning: 'rate for the time that --plan tells' },
  help: { value: undefined, fallback: '', meaning: 'this text' },
} as const satisfies Readonly<Record<string, Flag>>;

type FlagName = keyof typeof FLAGS;

/** A command line, read and checked. */
export interface CommandLine {
  readonly action: 'embed' | 'plan' | 'help' | 'worker' | QueueVerb;
  readonly options: CorpusOptions;
  readonly queue: QueueFlags | undefined;
  /** Of `retry` and `cancel`. */
  readonly jobId: string;
  readonly apiKeyFile: string | undefined;
  readonly tokensPerSecond: number | undefined;
}

/** @throws CorpusError CORPUS_FLAG_INVALID that names the flag, the limit and the value. */
export function parseCommandLine(words: readonly string[]): CommandLine {
  const { sources, given } = splitWords(words);
  const action = actionOf(sources, given);
  checkAddresses(action, sources, given);
  const options = optionsOf(sources, given);
  if (options.toColumn !== undefined && options.heads.join() !== 'dense') {
    throw invalid('--to-column takes dense rows alone: leave out --heads');
  }
  checkTables(options, given);
  checkColumns(options);
  checkChunks(options, given);
  const isDenseOnly = options.format === 'npy' || options.format === 'openai-batch';
  if (isDenseOnly && options.heads.join() !== 'dense') {
    throw invalid(`--format ${options.format} holds dense rows alone: take parquet for --heads`);
  }
  const rate = given.get('tokens-per-second');
  return {
    action,
    options,
    queue: queueOf(given),
    jobId: sources[1] ?? '',
    apiKeyFile: given.get('api-key-file'),
    tokensPerSecond:
      rate === undefined ? undefined : countOf('tokens-per-second', rate, 1_000_000_000),
  };
}

/** What is about tables is not passed over in silence where there is none. */
function checkTables(options: CorpusOptions, given: ReadonlyMap<FlagName, string>): void {
  const { sources, to, toColumn, fields } = options;
  if (given.has('table') && !sources.some(isPostgresAddress)) {
    throw invalid('--table is for a postgres:// source');
  }
  for (const name of ['to-table', 'to-column'] as const) {
    if (given.has(name) && !isPostgresAddress(to)) {
      throw invalid(`--${name} is for a postgres:// destination`);
    }
  }
  if (toColumn !== undefined && fields.id === undefined) {
    throw invalid('--to-column finds the rows by their id: --id is missing');
  }
}

function checkChunks(options: CorpusOptions, given: ReadonlyMap<FlagName, string>): void {
  for (const name of ['chunk-overlap', 'chunk-text'] as const) {
    if (given.has(name) && options.chunks === undefined)
      throw invalid(`--${name} is for --chunk-tokens`);
  }
  const problem = chunkProblem(options);
  if (problem !== undefined) throw invalid(problem);
}

/** Columns of the output that are ours. */
const OWN_COLUMNS = [
  ...['id', 'token_count', 'truncated', 'error', 'embedding'],
  ...['sparse', 'sparse_indices', 'sparse_values', 'multi_vector'],
];

/** Two columns of one name: some readers refuse such a file, others show one of the two. */
function checkColumns({ fields: { id, carry } }: CorpusOptions): void {
  const twice = carry.find((name, index) => carry.indexOf(name) !== index);
  if (twice !== undefined) throw invalid(`--carry names ${twice} twice`);
  const own = carry.find((name) => OWN_COLUMNS.includes(name));
  if (own === undefined) return;
  const isId = own === 'id' && (id === undefined || id === 'id');
  const why = isId
    ? 'the id is in the output already, by --id id'
    : `the output has a column ${own} of its own; give the field another name`;
  throw invalid(`--carry ${own}: ${why}`);
}

/** Options of a job from code: what is left out is as the command has it. */
export function corpusOptions(
  given: Pick<CorpusOptions, 'sources' | 'to'> & Partial<CorpusOptions>,
): CorpusOptions {
  return { ...optionsOf(given.sources, new Map()), ...given };
}

const QUEUE_VERBS = ['status', 'retry', 'cancel'] as const;
/** What can be asked about the jobs of a queue. */
type QueueVerb = (typeof QUEUE_VERBS)[number];

function actionOf(
  [first]: readonly string[],
  given: ReadonlyMap<FlagName, string>,
): CommandLine['action'] {
  if (given.has('help')) return 'help';
  if (given.has('plan')) return 'plan';
  if (given.has('worker')) return 'worker';
  // A file may have such a name; then it is given as ./status.
  return QUEUE_VERBS.find((verb) => verb === first) ?? 'embed';
}

function checkAddresses(
  action: CommandLine['action'],
  sources: readonly string[],
  given: ReadonlyMap<FlagName, string>,
): void {
  const wantsSource = action === 'embed' || action === 'plan';
  if (wantsSource && sources.length === 0) {
    throw invalid('no source: which file, folder or address?');
  }
  if (sources.includes('-')) {
    throw invalid('-: standard input cannot be read again after a kill; write it to a file first');
  }
  if (given.get('to') === '-')
    throw invalid('--to -: standard output holds no parts; name a folder');
  if (action === 'embed' && !given.has('to')) throw invalid('--to is missing: where to?');
  const addresses = [...sources, given.get('to') ?? ''];
  if (given.has('queue') && addresses.some(hasPassword)) {
    throw invalid(
      'a password would lie in the queue: leave it out, and set PGPASSWORD for each worker',
    );
  }
  const wantsQueue = !wantsSource && action !== 'help';
  if (wantsQueue && !given.has('queue')) throw invalid(`${action} needs --queue`);
  if (given.has('stay') && action !== 'worker') throw invalid('--stay is for --worker');
  if (action === 'worker' && sources.length > 0) {
    throw invalid('--worker takes its jobs from the queue, and no source');
  }
  const wantsJob = action === 'retry' || action === 'cancel';
  if (wantsJob && sources.length !== 2) throw invalid(`${action} needs a job: embed status`);
}

function queueOf(given: ReadonlyMap<FlagName, string>): QueueFlags | undefined {
  const url = given.get('queue');
  if (url === undefined) return undefined;
  const read = (name: 'lease' | 'tries-max'): string => given.get(name) ?? FLAGS[name].fallback;
  return {
    url,
    leaseMs: countOf('lease', read('lease'), 86_400) * 1000,
    triesMax: countOf('tries-max', read('tries-max'), 1000),
    stays: given.has('stay'),
  };
}

function optionsOf(
  sources: readonly string[],
  given: ReadonlyMap<FlagName, string>,
): CorpusOptions {
  const read = (name: FlagName): string => given.get(name) ?? FLAGS[name].fallback;
  const optional = (name: FlagName): string | undefined => read(name) || undefined;
  const list = (name: FlagName): readonly string[] => {
    const words = read(name).split(',');
    const named = words.map((word) => word.trim()).filter((word) => word !== '');
    if (given.has(name) && named.length === 0) throw invalid(`--${name} names nothing`);
    return named;
  };
  const choice = <Name extends string>(name: FlagName, names: readonly Name[]): Name =>
    choiceOf(name, read(name), names);
  const count = (name: FlagName, max: number): number => countOf(name, read(name), max);
  const heads = list('heads').map((head) => choiceOf('heads', head, HEADS));
  const requestTextsMax = count('request-texts', 2048);
  const isBatch = read('input-format') === 'openai-batch';
  return {
    sources,
    inputFormat: read('input-format') === '' ? undefined : choice('input-format', INPUT_FORMATS),
    fields: {
      text: isBatch && !given.has('text') ? ['body.input'] : list('text'),
      id: isBatch && !given.has('id') ? 'custom_id' : optional('id'),
      carry: list('carry'),
    },
    table: optional('table'),
    to: read('to').replace(/(?<=.)\/+$/, ''),
    format: choice('format', ['parquet', 'jsonl', 'npy', 'openai-batch']),
    toTable: optional('to-table'),
    toColumn: optional('to-column'),
    heads: HEADS.filter((head) => heads.includes(head)),
    dtype: choice('dtype', ['float32', 'float16']),
    inputType: choice('input-type', ['passage', 'query']),
    truncate: !given.has('no-truncate'),
    chunks: chunksOf(given, read),
    urls: list('url').map((url) => url.replace(/\/+$/, '')),
    apiKey: undefined,
    concurrency: count('concurrency', 1024),
    requests: {
      requestTextsMax,
      // A row for each token: 4,096 characters come to 5 MB at 1,024 dimensions, and sixteen such
      // replies are held at a time.
      requestCharactersMax: heads.includes('multi_vector')
        ? 4096
        : Math.max(65_536, requestTextsMax * REQUEST_CHARACTERS_PER_TEXT),
    },
    parts: {
      partTextsMax: count('part-texts', 1_000_000),
      partCharactersMax: count('part-characters', 1 << 28),
    },
    errorsInRowMax: count('errors-in-row-max', 1_000_000_000),
    patienceMs: count('patience', 2_000_000) * 1000,
    progressFile: optional('progress-file'),
  };
}

function chunksOf(
  given: ReadonlyMap<FlagName, string>,
  read: (name: FlagName) => string,
): CorpusOptions['chunks'] {
  const tokens = (name: 'chunk-tokens' | 'chunk-overlap', least: number): number =>
    countOf(name, read(name), 1_000_000, least);
  const overlapTokens = tokens('chunk-overlap', 0);
  if (!given.has('chunk-tokens')) return undefined;
  return {
    tokensMax: tokens('chunk-tokens', CHUNK_TOKENS_LEAST),
    overlapTokens,
    carriesText: given.has('chunk-text'),
  };
}

/**
 * Characters that a request has room for, for each text that it may have: longer texts make
 * requests of fewer. 128 texts have the least that any request has.
 */
const REQUEST_CHARACTERS_PER_TEXT = 512;

const HEADS = ['dense', 'sparse', 'multi_vector'] as const;

function splitWords(words: readonly string[]): {
  sources: readonly string[];
  given: ReadonlyMap<FlagName, string>;
} {
  const sources: string[] = [];
  const given = new Map<FlagName, string>();
  for (let index = 0; index < words.length; index++) {
    const word = words[index] as string;
    if (!word.startsWith('-') || word === '-') {
      sources.push(word);
      continue;
    }
    const [, name = '', inline] = /^--?([\w-]+)(?:=(.*))?$/s.exec(word) ?? [];
    const known = name === 'h' ? 'help' : name;
    if (!Object.hasOwn(FLAGS, known))
      throw invalid(`there is no flag ${shortened(word)}${nearest(name)}`);
    const flag = known as FlagName;
    if (given.has(flag)) {
      throw invalid(`--${flag} is there twice; several names are joined by commas`);
    }
    if (FLAGS[flag].value === undefined) {
      if (inline !== undefined) throw invalid(`--${flag} takes no value`);
      given.set(flag, 'yes');
    } else {
      const value = inline ?? words[++index];
      if (value === undefined || value === '') throw invalid(`--${flag} needs a value`);
      given.set(flag, value);
    }
  }
  return { sources, given };
}

/** The flag that was meant, where one begins alike. */
function nearest(name: string): string {
  if (name === 'dry-run') return '; --plan counts, and encodes nothing';
  const like = Object.keys(FLAGS).find((flag) => flag.startsWith(name.slice(0, 3)));
  return like === undefined || name.length < 3 ? '' : `; is it --${like}?`;
}

function choiceOf<Name extends string>(flag: string, value: string, names: readonly Name[]): Name {
  const found = names.find((name) => name === value);
  if (found !== undefined) return found;
  throw invalid(`--${flag} must be one of ${names.join(', ')}, not "${shortened(value)}"`);
}

function countOf(flag: string, value: string, max: number, least = 1): number {
  const number = Number(value);
  if (Number.isInteger(number) && number >= least && number <= max) return number;
  throw invalid(
    `--${flag} must be a whole number from ${least} to ${max}, not "${shortened(value)}"`,
  );
}

function invalid(problem: string): CorpusError {
  return new CorpusError(
    'CORPUS_FLAG_INVALID',
    `${problem}${problem.endsWith('?') ? '' : '.'} ./run.sh embed --help explains.`,
  );
}

/** What `--help` prints. */
export function helpText(): string {
  const rows = Object.entries<Flag>(FLAGS).map(([name, { value, fallback, meaning }]) => {
    const flag = `--${name}${value === undefined ? '' : ` ${value}`}`;
    return `  ${flag.padEnd(24)} ${meaning}${fallback === '' ? '' : ` [${fallback}]`}`;
  });
  return `${HELP_HEAD}\n${rows.join('\n')}\n${HELP_TAIL}`;
}

const HELP_HEAD = `Usage: ./run.sh embed SOURCE... --to DEST [FLAGS]

Encodes a corpus: files, buckets or a table of texts in, vectors out. Run it again after whatever
ended it: what is committed stays, the rest is done, and the bytes are the same in the end.
`;

const HELP_TAIL = `
Examples:
  ./run.sh embed laws.jsonl --to vectors --text body --id id
  ./run.sh embed laws.jsonl --plan --text body
  ./run.sh embed 'archive/*.csv.gz' --to vectors-npy --format npy --text body --carry court,year
  ./run.sh embed laws.jsonl --to vectors-url --text body --url http://localhost:8080
  ./run.sh embed laws.jsonl --to vectors-queue --text body --queue nats://localhost:4222
  ./run.sh embed --worker --queue nats://localhost:4222
  ./run.sh embed status --queue nats://localhost:4222

Exit status:
    0  every text has its vectors
    2  a flag or a source is wrong
    3  done, but some texts failed: their rows carry the error
    4  refused: the destination holds another job, the source has changed, or the model has
    5  stopped: no server answered for --patience, the source can no longer be read, or too many
       texts in a row failed; what is committed stays
    6  stopped: the destination, or standard output, cannot be written
  130  SIGINT, 143 SIGTERM: ended cleanly; run it again to go on
`;
