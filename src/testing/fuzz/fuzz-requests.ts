import { join } from 'node:path';
import { pack } from 'msgpackr';
import { createAdmission } from '../../admission/admission.ts';
import type { Backend, TokenBatch } from '../../backend/contract.ts';
import { systemClock } from '../../base/clock.ts';
import { createLog } from '../../base/log.ts';
import { createMicroBatcher } from '../../batcher/micro-batcher.ts';
import { readConfig } from '../../config/read.ts';
import { loadManifest } from '../../model/manifest.ts';
import { createMetrics } from '../../observe/metrics.ts';
import { createApp } from '../../serve/app.ts';
import type { TokenizerPool } from '../../tokenizer/pool/tokenizer-pool.ts';
import { FloatBlock } from '../../vectors/output.ts';
import { BACKGROUND } from '../batcher-harness.ts';
import { type SeededRandom, seededRandom } from '../seeded-random.ts';
import { misfit, mutate } from './mutate.ts';

const MODELS = join(import.meta.dir, '../../../models');
const DIMENSION = 8;

/** Sends one damaged request to the whole application. @returns what is wrong, or nothing. */
export type FuzzRequest = (seed: number) => Promise<string | undefined>;

/** What each route takes when it is right. */
const BODIES: readonly (readonly [path: string, body: object])[] = [
  ['/encode', { query: ['договор', 'a\n"quoted" \\ text'], input_type: 'passage', batch_size: 2 }],
  ['/encode', { query: 'one text', truncate: false, outputs: ['dense'] }],
  ['/v1/embeddings', { input: ['a', 'b'], model: 'bge-m3', encoding_format: 'base64' }],
  ['/v1/embeddings', { input: 'a', model: 'bge-m3', dimensions: 8 }],
  ['/embed', { inputs: ['a', 'b'], normalize: true, truncate: true }],
  ['/score', { query: 'a', texts: ['b', 'c'] }],
  ['/tokenize', { texts: ['a'] }],
];

const HEADERS: Readonly<Record<string, readonly string[]>> = {
  accept: [
    '*/*',
    'application/json',
    'application/msgpack',
    'application/octet-stream;dtype=float16',
  ],
  'content-type': ['application/json', 'application/msgpack', 'application/json; charset=utf-8'],
  'x-timeout-ms': ['1000', '1', '99999999999'],
  'x-request-id': ['abc-123'],
};

/** The whole application, with a model in memory that knows nothing and answers at once. */
export async function createRequestFuzzer(): Promise<FuzzRequest> {
  const log = createLog({ level: 'error', write: () => undefined });
  const config = readConfig({ MODELS_DIR: MODELS, TRITON_URL: 'http://127.0.0.1:9' });
  const manifest = await loadManifest({ modelsDir: MODELS, name: 'bge-m3' });
  const backend = instantBackend();
  const clock = systemClock;
  const expected = { dimension: DIMENSION, isNormalized: true };
  const background = BACKGROUND;
  const batching = { backend, expected, clock, lingerMs: 0, background, tokenCountMax: 512 };
  const bounds = { clock, textCountMax: 8192, tokenCountMax: 4_000_000 };
  const parts = {
    admission: createAdmission(bounds),
    backgroundAdmission: createAdmission(bounds),
    tokenizer: lengthTokenizer,
    vocabulary: undefined,
    batcher: createMicroBatcher(batching),
    backend,
    manifest: { ...manifest, dimension: DIMENSION },
    clock,
    limits: { requestTimeoutMs: 60_000, emptyTexts: 'encode', textCharactersMax: 100_000 },
    metrics: createMetrics(),
    tracing: undefined,
  } as unknown as Parameters<typeof createApp>[0]['parts'];
  const app = createApp({ parts, config, version: 'fuzz', log });

  return async (seed) => {
    const random = seededRandom(Math.imul(seed, 2_654_435_761) >>> 0);
    const [path, body] = random.pick(BODIES);
    const isMsgpack = random.below(2) === 0;
    const isMisfit = random.below(3) === 0;
    const value = isMisfit ? misfit(body, random) : body;
    const right = isMsgpack ? Uint8Array.from(pack(value)) : Buffer.from(JSON.stringify(value));
    const headers = planHeaders(random, isMsgpack);
    const isWhole = isMisfit || random.below(10) === 0;
    const sent = isWhole ? Uint8Array.from(right) : mutate(right, random);
    const request = new Request(`http://localhost${path}`, { method: 'POST', headers, body: sent });
    const reply = await app.handle(request);
    const answer = await reply.bytes();
    const said = Buffer.from(answer).toString().slice(0, 200);
    // A caller may be in such a hurry that its deadline passes.
    const isNamed = reply.status < 500 || said.includes('EMB_DEADLINE_EXCEEDED');
    return isNamed && answer.length > 0 ? undefined : `${path} ${reply.status}: ${said}`;
  };
}

function planHeaders(random: SeededRandom, isMsgpack: boolean): Headers {
  const headers = new Headers({
    'content-type': isMsgpack ? 'application/msgpack' : 'application/json',
  });
  for (const [name, choices] of Object.entries(HEADERS)) {
    if (random.below(4) > 0) continue;
    const value = Buffer.from(random.pick(choices));
    const changed = random.below(2) === 0 ? value : mutate(value, random);
    // What no header may carry never reaches the server.
    const text = Buffer.from(changed)
      .toString('latin1')
      .replace(/[^\x20-\x7e\x80-\xff]/g, '');
    headers.set(name, text);
  }
  return headers;
}

/** A row for each text, by its ids, of length one. */
function instantBackend(): Backend {
  return {
    name: 'triton',
    isInProcess: false,
    capabilities: () => ({
      heads: ['dense'],
      slotCount: 2,
      endpointCount: 1,
      batchTextsMax: 32,
      batchTokensMax: 16_384,
      multiVectorTokensMax: 4096,
      launchTokens: 480,
      isOneByOne: false,
    }),
    state: () => ({ isReady: true, reason: '' }),
    async infer({ texts }: TokenBatch) {
      const rows = new Float32Array(texts.length * DIMENSION);
      texts.forEach((ids, row) => {
        const angle = ids.reduce((sum, id) => (sum * 31 + id) % 1_000_003, 7);
        rows[row * DIMENSION] = Math.cos(angle);
        rows[row * DIMENSION + 1] = Math.sin(angle);
      });
      return { dense: FloatBlock.of(rows) };
    },
    doubt: async () => undefined,
    close: async () => undefined,
  };
}

/** Ids are the characters' codes, cut at 32. */
const lengthTokenizer = {
  reason: '',
  ready: undefined,
  async tokenize(texts: readonly string[]) {
    return texts.map((text) => {
      const codes = [...text.slice(0, 30)].map((c) => c.charCodeAt(0));
      const tokenIds = Int32Array.from([0, ...codes, 2]);
      return { tokenIds, tokenCount: text.length + 2, isTruncated: text.length > 30 };
    });
  },
  explain: async (texts: readonly string[]) => ({
    tokenCount: 0,
    json: new TextEncoder().encode(JSON.stringify(texts.map(() => []))),
  }),
} as unknown as TokenizerPool;
