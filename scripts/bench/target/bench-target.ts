import { loadManifest } from '../../../src/model/manifest.ts';
import {
  deterministicEmbedding,
  trivialEmbedding,
} from '../../../src/testing/triton/deterministic-embedding.ts';
import type { TritonStatistics } from '../../../src/testing/triton/triton-statistics.ts';
import type { ExpectedRows } from '../load/plan-requests.ts';
import { type BenchTriton, startBenchTriton, TRITON_DIMENSION } from './bench-triton.ts';
import { processTree } from './process-usage.ts';
import { startServerProcess } from './server-process.ts';

/** What the server runs on. `url`: a server that somebody else has started. */
export type TargetKind = 'trivial' | 'timed' | 'embedded' | 'url';

/**
 * The time of the middling GPU that the timed model imitates, and the profiles of the engine; the
 * scheduling figures rest on the same numbers. Attention is as dear as the rest of a token at 6,144
 * tokens: 0.604 GFLOP a token and 98,304 times the length, 24 layers of 1,024.
 */
export const TIMED_MODEL = {
  kind: 'timed',
  launchMs: 4,
  tokensPerSecond: 120_000,
  lengthTokens: 6_144,
  profiles: '64x64,32x512,8x2048,2x8192',
} as const;

/**
 * Largest batch that the fake models take: more than the server sends by default, so that its
 * settings decide.
 */
const TRITON_BATCH_MAX = 64;

/**
 * How far a component may lie from that of the same text alone: what the server promises whatever
 * the neighbours.
 */
const EMBEDDED_TOLERANCE = 1e-6;

/** A server to be measured, with all that is known of it. */
export interface BenchTarget {
  readonly kind: TargetKind;
  /** Without a slash at the end. */
  readonly url: string;
  readonly modelId: string;
  readonly prefix: string;
  readonly tokenCountMax: number;
  readonly expected: ExpectedRows;
  /** Processes whose processor time can be told, by name. */
  readonly pids: Readonly<Record<string, readonly number[]>>;
  /** What Triton itself counted; undefined without one of ours. */
  statistics(): Promise<TritonStatistics | undefined>;
  /** What the server wrote to its log. */
  log(): string;
  stop(): Promise<void>;
}

/**
 * Starts what a scenario needs, a real Triton included, each in processes of their own.
 *
 * @param options.model of the embedded backend; its default unless told.
 * @param options.settings further settings of the server, as variables.
 * @param options.hasMultiVectors of a trivial Triton.
 * @param options.profileDir makes the server write its profiles there when it stops.
 */
export async function startTarget(
  kind: Exclude<TargetKind, 'url'>,
  options: {
    modelsDir: string;
    model?: string;
    settings?: Readonly<Record<string, string>>;
    profileDir?: string | undefined;
    hasMultiVectors?: boolean;
  },
): Promise<BenchTarget> {
  const { settings, profileDir, modelsDir, hasMultiVectors = false } = options;
  const { model = 'multilingual-e5-small' } = options;
  const modelId = kind === 'embedded' ? model : 'bge-m3';
  const manifest = await loadManifest({ modelsDir, name: modelId });
  let triton: BenchTriton | undefined;
  try {
    if (kind !== 'embedded') {
      const imitated = kind === 'timed' ? TIMED_MODEL : ({ kind } as const);
      triton = await startBenchTriton(imitated, { maxBatch: TRITON_BATCH_MAX, hasMultiVectors });
    }
    const backend: Readonly<Record<string, string>> =
      triton === undefined
        ? { BACKEND: 'embedded', MODEL: modelId, MODELS_DIR: modelsDir }
        : { BACKEND: 'triton', TRITON_URL: triton.url };
    const server = await startServerProcess({
      environment: { ...backend, LOG_LEVEL: 'warn', ...settings },
      profileDir,
    });
    return {
      kind,
      url: server.url,
      modelId,
      prefix: manifest.prefixes.query,
      tokenCountMax: manifest.tokenCountMax,
      expected: expectedRows(kind),
      pids: {
        server: processTree(server.pid),
        ...(triton === undefined ? {} : { triton: processTree(triton.pid) }),
      },
      statistics: async () => triton?.statistics(),
      log: server.log,
      async stop() {
        await server.stop();
        await triton?.stop();
      },
    };
  } catch (error) {
    await triton?.stop();
    throw error;
  }
}

/**
 * A server that runs already. What it is it says itself.
 *
 * @throws Error when it has no `/info`.
 */
export async function attachTarget(url: string): Promise<BenchTarget> {
  const base = url.replace(/\/+$/, '');
  const reply = await fetch(`${base}/info`);
  if (!reply.ok) throw new Error(`${base}/info answered ${reply.status}: is this such a server?`);
  const { model } = (await reply.json()) as {
    model: { id: string; max_tokens: number; prefixes: { query: string } };
  };
  return {
    kind: 'url',
    url: base,
    modelId: model.id,
    prefix: model.prefixes.query,
    tokenCountMax: model.max_tokens,
    expected: expectedRows('url'),
    pids: {},
    statistics: async () => undefined,
    log: () => '',
    stop: async () => undefined,
  };
}

function expectedRows(kind: TargetKind): ExpectedRows {
  if (kind === 'trivial') {
    return { rowOf: (ids) => trivialEmbedding(ids, TRITON_DIMENSION), tolerance: 0 };
  }
  if (kind === 'timed') {
    return { rowOf: (ids) => deterministicEmbedding(ids, TRITON_DIMENSION), tolerance: 0 };
  }
  return { rowOf: 'server', tolerance: EMBEDDED_TOLERANCE };
}
