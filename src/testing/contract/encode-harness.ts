import { afterAll, beforeAll } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadReferenceIds, type ReferenceIds } from '../reference-ids.ts';
import { type RunningServer, startServer } from '../start-server.ts';
import { deterministicEmbedding } from '../triton/deterministic-embedding.ts';
import { type RunningTriton, startTriton } from '../triton/start-triton.ts';
import { writeRepository } from '../triton/write-repository.ts';
import { until } from '../until.ts';

export const DIMENSION = 1024;
/** The model's name inside Triton. */
export const MODEL = 'bge_model';

/**
 * The whole server, with the manifest and the tokenizer of BGE-M3, on a real Triton with a model
 * that a test can recompute.
 */
export interface EncodeHarness {
  readonly triton: RunningTriton;
  readonly server: RunningServer;
  readonly referenceIds: ReferenceIds;
  isReady(): Promise<boolean>;
  /** `POST /encode`, and waits for the head of the reply. */
  post(body: object, accept?: string): Promise<Response>;
  /** A text's row as hexadecimal bytes, by the reference's ids and the model's formula. */
  rightHex(text: string): Promise<string>;
}

/** A JSON reply of `/encode`. */
export interface JsonReply {
  readonly embedding: number[];
  readonly embeddings: number[][];
  readonly model: string;
  readonly dim: number;
  readonly tokens: number | number[];
  readonly truncated: boolean | boolean[];
}

/** Registers what sets it up before the tests of a file, and takes it down after them. */
export function encodeHarness(): EncodeHarness {
  const dir = mkdtempSync(join(tmpdir(), 'encode-contract-'));
  const referenceIds = loadReferenceIds('bge-m3');
  let triton: RunningTriton;
  let server: RunningServer;

  const isReady = async (): Promise<boolean> => (await fetch(`${server.url}/ready`)).status === 200;

  beforeAll(async () => {
    const model = { kind: 'deterministic', datatype: 'INT64', output: 'dense_vecs' } as const;
    const size = { dimension: DIMENSION, maxBatch: 32 };
    writeRepository({ dir, models: [{ name: MODEL, ...model, ...size }] });
    triton = await startTriton({ repository: dir });
    server = await startServer({
      BACKEND: 'triton',
      MODEL: 'bge-m3',
      TRITON_URL: triton.url,
      TRITON_PROBE_MS: '50',
      TOKENIZER_WORKERS: '1',
    });
    await until('the server is ready', isReady);
  });

  afterAll(async () => {
    await server?.close();
    await triton?.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  return {
    get triton() {
      return triton;
    },
    get server() {
      return server;
    },
    referenceIds,
    isReady,
    post: (body, accept = 'application/json') =>
      fetch(`${server.url}/encode`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', accept },
        body: JSON.stringify(body),
      }),
    rightHex: async (text) => hexOf(deterministicEmbedding(await referenceIds(text), DIMENSION)),
  };
}

/** The bytes of a row as hexadecimal digits: a string that can be compared to the last bit. */
export function hexOf(row: ArrayLike<number>): string {
  return Buffer.from(Float32Array.from(row).buffer).toString('hex');
}
