import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import packageJson from '../../package.json';
import { createAdmission } from '../admission/admission.ts';
import type { Backend } from '../backend/contract.ts';
import { createFallbackBackend } from '../backend/fallback-backend.ts';
import { createLocalBackend, type LocalBackend } from '../backend/local/local-backend.ts';
import { planTextMemory, tokensThatFit } from '../backend/local/memory-budget.ts';
import {
  chooseModelFile,
  engineOfFile,
  lengthFaultOf,
  modelBytesOf,
  storesScores,
} from '../backend/local/model-file.ts';
import { layoutSessions } from '../backend/local/session-layout.ts';
import { createTritonBackend } from '../backend/triton/triton-backend.ts';
import { createTritonCall } from '../backend/triton/triton-call.ts';
import type { Clock } from '../base/clock.ts';
import { coreCountOf, readContainerLimits } from '../base/container-limits.ts';
import type { Log } from '../base/log.ts';
import type { BackgroundLimits } from '../batcher/background.ts';
import { createMicroBatcher } from '../batcher/micro-batcher.ts';
import { RowCache } from '../batcher/row-cache.ts';
import { ConfigError } from '../config/read.ts';
import type { Config } from '../config/settings.ts';
import type { Parts } from '../encode/contract.ts';
import { tracedBackend, tracedCall } from '../encode/encode-tracing.ts';
import { readSelfCheck, type SelfCheck } from '../model/engine-record.ts';
import type { ModelManifest } from '../model/manifest.ts';
import { createMetrics, type Metrics } from '../observe/metrics.ts';
import { createTracing, type Tracing } from '../observe/tracing.ts';
import { openTokenizer } from '../tokenizer/open-tokenizer.ts';
import { createTokenizerPool, type TokenizerPool } from '../tokenizer/pool/tokenizer-pool.ts';
import { TokenizerInvalidError } from '../tokenizer/tokenizer-error.ts';
import { replaceMappedCopy } from './replace-mapped-copy.ts';

const TOKENIZER_WORKER = new URL('../../workers/tokenizer-worker.ts', import.meta.url);
const INFERENCE_WORKER = new URL('../../workers/inference-worker.ts', import.meta.url);

/**
 * Characters of a text with `truncate: false`, for each token of the model: no vocabulary has
 * pieces that long.
 */
const CHARACTERS_PER_TOKEN_MAX = 250;

/** All live parts of a server. */
export interface LiveParts extends Parts {
  /** What they count; the routes count on. */
  readonly metrics: Metrics;
  /** Undefined unless a collector is set. */
  readonly tracing: Tracing | undefined;
  /**
   * Resolves when everything has started, or has failed for good: why no text will ever be
   * answered, or nothing. A Triton that does not answer yet is no failure.
   */
  readonly started: Promise<string>;
  /** Lets go of workers and sockets; what still waits fails with EMB_SHUTTING_DOWN. */
  close(): Promise<void>;
}

/**
 * Builds the parts that `config` asks for. The tokenizer is opened first, which takes some tens of
 * ms once it is compiled; workers start in the background.
 */
export async function createParts(options: {
  config: Config;
  manifest: ModelManifest;
  clock: Clock;
  log: Log;
}): Promise<LiveParts> {
  const { config, manifest, clock } = options;
  const metrics = createMetrics();
  const log = metrics.counting(options.log);
  const tracing = await tracingOf(config, clock, log);
  const { tokenCountMax } = manifest;
  const { modelsDir } = config;
  const opened = await openTokenizer({ modelsDir, modelId: manifest.id, log }).catch((error) => {
    throw tokenizerFailure(error, resolve(modelsDir, manifest.id, 'tokenizer.json'), manifest);
  });
  const isChecked = config.backend === 'triton' && config.selfCheck;
  const selfCheck = isChecked ? await readSelfCheck({ modelsDir, manifest, log }) : undefined;
  const { backend, started } = createBackend({ ...options, selfCheck, tracing, log });
  const tokenizer = createTokenizer({ config, tokenCountMax, clock, log }, opened);
  const batcher = createMicroBatcher({
    backend: tracing === undefined ? backend : tracedBackend(backend, tracing),
    expected: { dimension: manifest.dimension, isNormalized: manifest.normalized },
    clock,
    lingerMs: config.lingerUs / 1000,
    holdShare: config.batchHoldPercent / 100,
    background: backgroundLimitsOf(config),
    graceMs: config.backendGraceMs,
    tokenCountMax,
    cache: config.cacheBytes === 0 ? undefined : cacheOf(config, metrics),
    onBatch: metrics.batch,
  });
  metrics.counter(
    {
      name: 'bge_encoder_coalesced_texts_total',
      help: 'Texts that got the row of an equal one, which waited or ran when they came.',
    },
    () => batcher.coalescing.joinedCount,
  );
  return {
    ...createAdmissions(config, batcher, clock),
    tokenizer,
    vocabulary: opened.vocabulary,
    batcher,
    backend,
    manifest,
    metrics,
    tracing,
    clock,
    limits: {
      requestTimeoutMs: config.requestTimeoutMs,
      emptyTexts: config.emptyTexts,
      textCharactersMax: config.textCharactersMax || tokenCountMax * CHARACTERS_PER_TOKEN_MAX,
    },
    started: Promise.all([started, tokenizer.started]).then(
      ([failure]) => failure || tokenizer.reason,
    ),
    async close() {
      batcher.close();
      tokenizer.close();
      await backend.close();
      await tracing?.close();
    },
  };
}

/** Processes do not know of each other's queries: together they delay one for so long. */
function backgroundLimitsOf(config: Config): BackgroundLimits {
  return {
    delayMs: config.backgroundDelayMs / config.serverProcesses,
    share: config.backgroundSharePercent / 100,
    waitMs: config.backgroundWaitMs,
  };
}

/** Each class has places and a speed of its own: a job that is refused refuses nobody else. */
function createAdmissions(
  config: Config,
  { foreground, background }: Parts['batcher'],
  clock: Clock,
): Pick<Parts, 'admission' | 'backgroundAdmission'> {
  const bounds = {
    clock,
    timeoutMs: config.requestTimeoutMs,
    hold: {
      holdMs: config.queueHoldMs,
      holdTextsMax: config.queueHoldTextsMax,
      holdBytesMax: config.queueHoldBytesMax,
    },
  };
  return {
    admission: createAdmission({
      ...bounds,
      textCountMax: config.queueTextsMax,
      tokenCountMax: config.queueTokensMax,
      backlog: foreground,
    }),
    backgroundAdmission: createAdmission({
      ...bounds,
      queueName: 'background queue',
      textCountMax: config.backgroundTextsMax,
      tokenCountMax: config.backgroundTokensMax,
      backlog: background,
    }),
  };
}

function cacheOf({ cacheBytes }: Config, metrics: Metrics): RowCache {
  const cache = new RowCache(cacheBytes);
  metrics.gauge(
    { name: 'bge_encoder_cache_bytes', help: 'Memory of rows that are kept.' },
    () => cache.bytes,
  );
  metrics.counters(
    {
      name: 'bge_encoder_cache_texts_total',
      help: 'Texts looked up, by whether their rows were known.',
      label: 'outcome',
    },
    () => Object.entries(cache.counts),
  );
  return cache;
}

async function tracingOf(config: Config, clock: Clock, log: Log): Promise<Tracing | undefined> {
  if (config.otlpEndpoint === '') return undefined;
  return await createTracing({
    endpoint: config.otlpEndpoint,
    headers: Object.fromEntries(config.otlpHeaders.map(headerOf)),
    serviceName: config.otlpServiceName,
    version: packageJson.version,
    samplePercent: config.tracePercent,
    clock,
    log,
  });
}

/** `name=value`, percent-encoded, as OpenTelemetry writes headers in a variable. */
function headerOf(pair: string): [name: string, value: string] {
  const at = pair.indexOf('=');
  return [decodeURIComponent(pair.slice(0, at)), decodeURIComponent(pair.slice(at + 1))];
}

function createTokenizer(
  options: { config: Config; tokenCountMax: number; clock: Clock; log: Log },
  { init }: Pick<Awaited<ReturnType<typeof openTokenizer>>, 'init'>,
): TokenizerPool {
  const { config, tokenCountMax, clock, log } = options;
  return createTokenizerPool({
    workerCount: config.tokenizerWorkers,
    workerUrl: TOKENIZER_WORKER,
    init,
    tokenCountMax,
    inlineUnitsMax: config.tokenizerInlineUnits,
    startMsMax: config.workerStartMs,
    restartsMax: config.workerRestartsMax,
    clock,
    log,
  });
}

/** What backends are made of. */
interface BackendParts {
  readonly config: Config;
  readonly manifest: ModelManifest;
  /** What an engine must answer; undefined where nobody knows, or nobody is to ask. */
  readonly selfCheck: SelfCheck | undefined;
  readonly tracing: Tracing | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

/** @returns `started` resolves to why the backend can never serve; empty when it may. */
function createBackend(options: BackendParts): { backend: Backend; started: Promise<string> } {
  const { config, manifest, tracing, clock, log } = options;
  const { dimension, padId, heads, outputs } = manifest;
  if (config.backend === 'triton') {
    const triton = createTritonBackend({
      urls: config.tritonUrls,
      modelName: config.tritonModel || manifest.tritonModel || manifest.id,
      expected: { dimension, padId, heads, outputs },
      selfCheck: options.selfCheck,
      timeoutMs: config.tritonTimeoutMs,
      probeMs: config.tritonProbeMs,
      resolveMs: config.tritonResolveMs,
      batchesInFlight: config.tritonBatchesInFlight,
      sharedMemory: sharedMemoryOf(config),
      batchTextsMax: config.batchTextsMax,
      batchTokensMax: config.batchTokensMax,
      multiVectorTokensMax: Math.floor(config.multiVectorBytesMax / (4 * dimension)),
      ...(tracing === undefined ? {} : { call: tracedCall(createTritonCall(clock), tracing) }),
      clock,
      log,
    });
    // It may come up at any time, so that it never fails for good.
    const started = Promise.resolve('');
    if (config.fallback === 'none') return { backend: triton, started };
    const backend = createFallbackBackend({ primary: triton, fallback: embedded(options), log });
    return { backend, started };
  }
  const backend = embedded(options);
  const failure = (): string => {
    const { isReady, reason } = backend.state();
    const fault = isReady ? '' : lengthFaultOf(modelFileOf(options));
    if (fault === '') return isReady ? '' : reason;
    return `${reason} ${fault} Delete it: ${wayOf(manifest)} --scope all.`;
  };
  return { backend, started: backend.started.then(failure) };
}

function sharedMemoryOf({ tritonSharedMemory: mode, tritonSharedMemoryBytes: bytes }: Config) {
  return mode === 'off' ? undefined : { mode, bytes };
}

/** Where a file of a model comes from. */
function wayOf({ id }: ModelManifest): string {
  return `./run.sh sets it up, or bun src/provision/setup.ts --model ${id}`;
}

/** @returns ConfigError in place of what says no path, or no way out. */
function tokenizerFailure(error: unknown, path: string, manifest: ModelManifest): unknown {
  const way = `${wayOf(manifest)} --scope tokenizer.`;
  if (!existsSync(path)) return new ConfigError(`${path} is missing. ${way}`);
  if (!(error instanceof TokenizerInvalidError)) return error;
  const why = `${error.message}. It is incomplete or damaged`;
  return new ConfigError(`${path} cannot be used: ${why}. Delete it: ${way}`);
}

function modelFileOf({ config, manifest }: Pick<BackendParts, 'config' | 'manifest'>) {
  const folder = resolve(config.modelsDir, manifest.id);
  const { files } = manifest;
  const paths = chooseModelFile({
    ...{ folder, files },
    named: config.embeddedModelFile,
    runtimeVersion: packageJson.dependencies['onnxruntime-node'],
  });
  return { folder, files, paths, modelPath: paths.modelPath };
}

/** @throws ConfigError when the model's file is not here: no worker could ever start. */
function embedded({ config, manifest, clock, log }: BackendParts): LocalBackend {
  const { dimension, outputs } = manifest;
  const { folder, files, paths } = modelFileOf({ config, manifest });
  if (!existsSync(paths.modelPath)) {
    const setting = config.backend === 'embedded' ? 'BACKEND' : 'FALLBACK';
    throw new ConfigError(
      `${setting}=embedded: ${paths.modelPath} is missing. ${wayOf(manifest)} --scope all.`,
    );
  }
  const { threadCount, wideThreadCount, ...layout } = layoutSessions({
    modelBytes: modelBytesOf(paths.modelPath),
    isMapped: paths.mappedPath !== undefined,
    slotCount: config.embeddedSlots,
    threadCount: config.embeddedThreads,
    coreCount: coreCountOf(readContainerLimits()),
  });
  const textMemory = planTextMemory({ dimension, storesScores: storesScores(paths.modelPath) });
  const memoryBytesMax = config.embeddedMemoryMb * 1e6;
  const tokens = tokensThatFit(textMemory, memoryBytesMax);
  if (tokens < manifest.tokenCountMax) {
    const { embeddedMemoryMb, model } = config;
    const { tokenCountMax: modelTokens } = manifest;
    log.warn('long-texts-refused', { model, embeddedMemoryMb, tokens, modelTokens });
  }
  return createLocalBackend({
    ...layout,
    engine: engineOfFile({ folder, files, modelPath: paths.modelPath }),
    textMemory,
    memoryBytesMax,
    workerUrl: INFERENCE_WORKER,
    init: { ...paths, threadCount, wideThreadCount, outputs, dimension },
    onMappedRefusal: (reason) => {
      const { modelsDir } = config;
      void replaceMappedCopy({ ...paths, modelsDir, modelId: manifest.id, reason, log });
    },
    startMsMax: config.workerStartMs,
    restartsMax: config.workerRestartsMax,
    clock,
    log,
  });
}
