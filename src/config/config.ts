import { backendOf, fitToMachine } from './fit.ts';
import {
  choice,
  integer,
  onOff,
  Problem,
  type Setting,
  secrets,
  text,
  urls,
  words,
} from './setting-kinds.ts';

const PATHS = {
  unit: 'paths',
  pattern: /^\/[!-)+\--~]*\*?$/,
  wanted: 'paths that start with /, with a * only at the end',
  value: ['/health', '/ready', '/', '/playground/*', '/swagger*'],
};

const ORIGINS = {
  unit: 'origins',
  pattern: /^(\*|https?:\/\/[^/?#\s]+)$/,
  wanted: 'http(s)://host[:port] or *',
};

// biome-ignore format: one setting, two lines: a table is read by its columns.
/**
 * Every setting. A zero that stands for "fit this machine" says so. The README's table is checked
 * against this one.
 */
export const SETTINGS = {
  host: text('HOST', '0.0.0.0', 'address',
    'Address to listen on.'),
  port: integer('PORT', 8080, [0, 65_535], 'port',
    'Port to listen on; 0 takes a free one.'),
  serverProcesses: integer('SERVER_PROCESSES', 1, [1, 64], 'processes',
    'Server processes on that port, for a machine with many cores; triton only. Limits are for each.'),
  backend: choice('BACKEND', ['auto', 'triton', 'embedded'],
    'Where the model runs. auto: triton when TRITON_URL is set, otherwise embedded.'),
  model: text('MODEL', '', 'name',
    'Manifest below MODELS_DIR. Empty: bge-m3 on triton, multilingual-e5-small on embedded.'),
  modelsDir: text('MODELS_DIR', 'models', 'folder',
    'Where manifests and model files are.'),
  tritonUrls: urls('TRITON_URL', 'http://localhost:8000',
    'HTTP endpoints of Triton, comma-separated; all serve the same model.'),
  tritonModel: text('TRITON_MODEL', '', 'name',
    'Name of the model inside Triton. Empty: the one in the manifest.'),
  tritonTimeoutMs: integer('TRITON_TIMEOUT_MS', 10_000, [10, 600_000], 'ms',
    'Deadline of one call to Triton; a call that may be repeated is tried twice.'),
  tritonBatchesInFlight: integer('TRITON_BATCHES_IN_FLIGHT', 2, [1, 64], 'batches',
    'Batches in flight to each Triton endpoint.'),
  tritonProbeMs: integer('TRITON_PROBE_MS', 1000, [10, 60_000], 'ms',
    'How often an endpoint is asked that is down, or of which no batch has told.'),
  selfCheck: onOff('SELF_CHECK', true,
    'Whether an engine must answer as its record says (cosine 0.9998), where there is a record.'),
  embeddedModelFile: text('EMBEDDED_MODEL_FILE', '', 'path',
    'ONNX file below the model\'s folder. Empty: the manifest\'s first that suits this processor.'),
  tritonResolveMs: integer('TRITON_RESOLVE_MS', 5000, [0, 600_000], 'ms',
    'How often the names in TRITON_URL are resolved; each address is an endpoint. 0: left to the connection.'),
  fallback: choice('FALLBACK', ['none', 'embedded'],
    'What stands in while Triton is down. embedded: the same model in this process, if its file is here.'),
  backendGraceMs: integer('BACKEND_GRACE_MS', 10_000, [0, 600_000], 'ms',
    'How long admitted texts wait for a backend that has gone down. Beyond it, 503.'),
  embeddedSlots: integer('EMBEDDED_SLOTS', 0, [0, 256], 'workers',
    'Inference workers side by side. 0: one for each core; of a model over 0.5 GB, one in all.'),
  embeddedThreads: integer('EMBEDDED_THREADS', 1, [1, 256], 'threads',
    'Threads of each inference worker; of a large model that is the only one, all cores.'),
  tokenizerWorkers: integer('TOKENIZER_WORKERS', 0, [0, 64], 'workers',
    'Tokenizer workers. 0: half the cores, at least two and at most four; shared by all processes.'),
  tokenizerInlineUnits: integer('TOKENIZER_INLINE_UNITS', 4096, [0, 65_536], 'UTF-16 units',
    'Text that one turn of the event loop tokenizes on the main thread. 0: workers do it all.'),
  workerRestartsMax: integer('WORKER_RESTARTS_MAX', 5, [0, 1000], 'restarts',
    'How often in a row a worker or process that dies while starting is started again.'),
  workerStartMs: integer('WORKER_START_MS', 60_000, [100, 600_000], 'ms',
    'How long a worker or process may take to load its model or tokenizer.'),
  batchTextsMax: integer('BATCH_TEXTS_MAX', 32, [1, 4096], 'texts',
    'Texts in one batch; the backend may allow fewer.'),
  batchTokensMax: integer('BATCH_TOKENS_MAX', 16_384, [16, 1_048_576], 'tokens',
    'Padded tokens (longest × texts) in one batch. A single text may exceed it.'),
  multiVectorBytesMax: integer('MULTI_VECTOR_BYTES_MAX', 67_108_864, [4096, 1_073_741_824], 'bytes',
    'Multi-vector output of one batch. A single text may exceed it.'),
  lingerUs: integer('LINGER_US', 0, [0, 100_000], 'µs',
    'How long a batch that is not full waits for more texts although a slot is free.'),
  batchHoldPercent: integer('BATCH_HOLD_PERCENT', 50, [0, 100], '%',
    'Share of a batch\'s time for which the next one to a busy endpoint waits for more texts.'),
  queueTextsMax: integer('QUEUE_TEXTS_MAX', 8192, [1, 10_000_000], 'texts',
    'Texts admitted and not yet answered. Beyond it, 429.'),
  queueTokensMax: integer('QUEUE_TOKENS_MAX', 4_194_304, [16, 1_000_000_000], 'tokens',
    'Tokens admitted and not yet answered, estimated from lengths before any cut. Beyond it, 429.'),
  requestTextsMax: integer('REQUEST_TEXTS_MAX', 2048, [1, 1_000_000], 'texts',
    'Texts in one request; at most QUEUE_TEXTS_MAX.'),
  requestTimeoutMs: integer('REQUEST_TIMEOUT_MS', 60_000, [10, 250_000], 'ms',
    'How long a request may take before it is answered with 504.'),
  bodyBytesMax: integer('BODY_BYTES_MAX', 33_554_432, [64, 1_073_741_824], 'bytes',
    'Size of a request body.'),
  bodiesBytesMax: integer('BODIES_BYTES_MAX', 268_435_456, [64, 17_179_869_184], 'bytes',
    'Bodies that are being received, all together; at least BODY_BYTES_MAX. Beyond it, 429.'),
  bodyTimeoutMs: integer('BODY_TIMEOUT_MS', 30_000, [10, 250_000], 'ms',
    'How long a body may take to arrive. Beyond it, 408.'),
  replyBytesMax: integer('REPLY_BYTES_MAX', 268_435_456, [4096, 2_147_483_647], 'bytes',
    'Size of a reply, estimated before the work is done; of scores, that of the vectors they are made of.'),
  scoringBytesMax: integer('SCORING_BYTES_MAX', 1_073_741_824, [4096, 1_099_511_627_776], 'bytes',
    'Vectors of all requests that are scored, together. Beyond it, 429.'),
  textCharactersMax: integer('TEXT_CHARACTERS_MAX', 0, [0, 1_073_741_824], 'UTF-16 units',
    'Length of a text with truncate: false. 0: 250 for each token the model takes.'),
  truncate: onOff('TRUNCATE', true,
    'Whether over-long texts are cut when a request does not say. A cut is always told.'),
  allowTokenIds: onOff('ALLOW_TOKEN_IDS', false,
    'Whether texts may come as token ids of this model, which are decoded. Off: ids are refused.'),
  strictModel: onOff('STRICT_MODEL', false,
    'Whether an OpenAI request that names another model is refused with 404.'),
  apiKeys: secrets('API_KEYS',
    'Keys, comma-separated, of which each call must bring one. Empty: no key is needed.'),
  apiKeysFile: text('API_KEYS_FILE', '', 'file',
    'Further keys, one a line; # starts a comment. Read once, at the start.'),
  keylessPaths: words('KEYLESS_PATHS', PATHS,
    'What GET reads without a key: health, and pages that hold no data. /metrics may be added.'),
  corsOrigins: words('CORS_ORIGINS', ORIGINS,
    'Web pages that may call from a browser; * is all of them. Empty: none.'),
  tlsCert: text('TLS_CERT', '', 'file',
    'Certificate chain in PEM. With TLS_KEY: HTTPS in place of HTTP.'),
  tlsKey: text('TLS_KEY', '', 'file',
    'Private key of the certificate, in PEM.'),
  unixSocket: text('UNIX_SOCKET', '', 'path',
    'Unix socket to listen on, in place of HOST and PORT.'),
  drainTimeoutMs: integer('DRAIN_TIMEOUT_MS', 20_000, [0, 600_000], 'ms',
    'How long SIGTERM waits for admitted requests and their replies.'),
  serverTiming: onOff('SERVER_TIMING', false,
    'Whether replies carry the time of each stage in a Server-Timing header.'),
  otlpEndpoint: text('OTEL_EXPORTER_OTLP_ENDPOINT', '', 'URL',
    'Collector for traces, OTLP over HTTP, for example http://localhost:4318. Empty: no traces.'),
  otlpHeaders: secrets('OTEL_EXPORTER_OTLP_HEADERS',
    'Headers for the collector: name=value, comma-separated, values percent-encoded.'),
  otlpServiceName: text('OTEL_SERVICE_NAME', 'bge-m3-encoder', 'name',
    'What traces call this server.'),
  tracePercent: integer('TRACE_PERCENT', 100, [0, 100], '%',
    'Part of the traces that begin here that are kept; a traceparent decides for itself.'),
  accessLog: onOff('ACCESS_LOG', false,
    'Whether each reply is logged at level info; otherwise at debug.'),
  logLevel: choice('LOG_LEVEL', ['info', 'debug', 'warn', 'error'],
    'Least important event that is logged.'),
} as const satisfies Record<string, Setting>;

/** Variables by name, as a process has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

type ValueOf<S> = S extends Setting<infer Value> ? Value : never;

/** All settings, checked and frozen. */
export type Config = { readonly [Name in keyof typeof SETTINGS]: ValueOf<(typeof SETTINGS)[Name]> };

/** All problems of the settings at once, one a line. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/**
 * Reads every setting from the environment. An empty variable counts as unset.
 *
 * @throws ConfigError that lists each variable that is wrong, with its bounds and its value.
 */
export function readConfig(environment: Environment): Config {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries<Setting>(SETTINGS)) {
    const raw = environment[setting.environment];
    const value = raw === undefined || raw === '' ? setting.default : setting.parse(raw);
    if (value instanceof Problem) {
      const shown = setting.isSecret ? 'what it is' : `"${raw}"`;
      problems.push(`${setting.environment} ${value.message}, not ${shown}.`);
    }
    values[name] = value;
  }
  if (problems.length === 0) problems.push(...contradictions(values as Config, environment));
  if (problems.length > 0) throw new ConfigError(problems.join('\n'));
  return Object.freeze(fitToMachine(values as Config, environment));
}

/** A header as OpenTelemetry writes it in a variable. */
const HEADER_PAIR = /^[\w!#$&'*+.^`|~-]+=(?:[^%]|%[\da-f]{2})+$/i;

/** Settings that are right alone and wrong together, or wrong as a whole. */
function contradictions(config: Config, environment: Environment): string[] {
  const problems: string[] = [];
  if (config.requestTextsMax > config.queueTextsMax) {
    problems.push(
      `REQUEST_TEXTS_MAX (${config.requestTextsMax}) must not exceed QUEUE_TEXTS_MAX ` +
        `(${config.queueTextsMax}): such a request could never be admitted.`,
    );
  }
  if (config.bodyBytesMax > config.bodiesBytesMax) {
    problems.push(
      `BODY_BYTES_MAX (${config.bodyBytesMax}) must not exceed BODIES_BYTES_MAX ` +
        `(${config.bodiesBytesMax}): such a body could never be received.`,
    );
  }
  if (config.otlpEndpoint !== '' && !/^https?:\/\/[^\s?#]+$/.test(config.otlpEndpoint)) {
    problems.push('OTEL_EXPORTER_OTLP_ENDPOINT must be http(s)://host:port of a collector.');
  }
  if (!config.otlpHeaders.every((pair) => HEADER_PAIR.test(pair))) {
    problems.push('OTEL_EXPORTER_OTLP_HEADERS must be name=value, values percent-encoded.');
  }
  if ((config.tlsCert === '') !== (config.tlsKey === '')) {
    problems.push('TLS_CERT and TLS_KEY must be set together: one is of no use without the other.');
  }
  if (config.serverProcesses > 1) problems.push(...unshareable(config, environment));
  return problems;
}

/** What several processes cannot have in common, and none should have for itself. */
function unshareable(config: Config, environment: Environment): string[] {
  const told = `SERVER_PROCESSES (${config.serverProcesses}) above 1`;
  const problems: string[] = [];
  if (backendOf(config, environment) === 'embedded') {
    problems.push(
      `${told} needs BACKEND triton: embedded, each process would load the model for itself ` +
        'and compute on the same cores; EMBEDDED_SLOTS shares them out.',
    );
  } else if (config.fallback === 'embedded') {
    problems.push(
      `${told} needs FALLBACK none: each process would load the embedded model for itself.`,
    );
  }
  if (config.unixSocket !== '') {
    problems.push(`${told} needs HOST and PORT: a UNIX_SOCKET has one listener.`);
  }
  return problems;
}

/** The settings as `/info` shows them: of secrets, how many there are. */
export function shownConfig(config: Config): Readonly<Record<string, unknown>> {
  const shown: Record<string, unknown> = { ...config };
  for (const [name, setting] of Object.entries<Setting>(SETTINGS)) {
    if (setting.isSecret) shown[name] = `${(shown[name] as readonly string[]).length} hidden`;
  }
  return shown;
}
