import { afterAll, beforeAll } from 'bun:test';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Head } from '../../vectors/output.ts';
import { type RunningServer, startServer } from '../start-server.ts';
import { type RunningTriton, startTriton } from '../triton/start-triton.ts';
import { writeRepository } from '../triton/write-repository.ts';
import { until } from '../until.ts';
import { SMALL_MODEL_OUTPUTS, writeSmallModel } from './write-small-model.ts';
import { type Golden, loadGolden } from './xlmr-small.ts';

const MODELS = join(import.meta.dir, '../../../models');

/** Texts that the fake engine takes in one batch. */
const BATCH_MAX = 16;

/** What the small model is called, in its manifest and in Triton. */
export const SMALL_MODEL = 'small';

/** The same graph inside Triton, of whose heads it gives the dense one alone. */
export const DENSE_ONLY_MODEL = 'dense-only';

/** The whole server with the small model and all of its heads, on a backend that is real. */
export interface SmallHeadsHarness {
  readonly server: RunningServer;
  /** Undefined when the model is embedded. */
  readonly triton: RunningTriton | undefined;
  readonly golden: Golden;
  /** Sends JSON and waits for the head of the reply. */
  post(
    path: string,
    body: object,
    accept?: string,
    headers?: Readonly<Record<string, string>>,
  ): Promise<Response>;
}

/**
 * Registers what sets it up before the tests of a file or block, and takes it down after them. Its
 * manifest is that of BGE-M3 in the small model's sizes.
 *
 * @param options.environment settings beside those that the harness needs.
 * @param options.heads those of the manifest; all three unless told.
 */
export function smallHeadsHarness(options: {
  backend: 'triton' | 'embedded';
  environment?: Readonly<Record<string, string>>;
  heads?: readonly Head[];
}): SmallHeadsHarness {
  const { backend, environment, heads } = options;
  let dir: string;
  let golden: Golden;
  let triton: RunningTriton | undefined;
  let server: RunningServer;

  beforeAll(async () => {
    golden = await loadGolden();
    dir = mkdtempSync(join(tmpdir(), 'small-heads-'));
    const modelsDir = join(dir, 'models');
    const graph = await writeModelsFolder(modelsDir, heads);
    if (backend === 'triton') {
      writeTritonModels(join(dir, 'repository'), graph);
      triton = await startTriton({ repository: join(dir, 'repository') });
    }
    server = await startServer({
      BACKEND: backend,
      MODEL: SMALL_MODEL,
      MODELS_DIR: modelsDir,
      TOKENIZER_WORKERS: '1',
      EMBEDDED_SLOTS: '2',
      TRITON_MODEL: SMALL_MODEL,
      TRITON_PROBE_MS: '50',
      ...(triton === undefined ? {} : { TRITON_URL: triton.url }),
      ...environment,
    });
    await until('the server is ready', async () => (await fetch(`${server.url}/ready`)).ok);
  });

  afterAll(async () => {
    await server?.close();
    await triton?.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  return {
    get server() {
      return server;
    },
    get triton() {
      return triton;
    },
    get golden() {
      return golden;
    },
    post: (path, body, accept = 'application/json', headers = {}) =>
      fetch(server.url + path, {
        method: 'POST',
        headers: { 'content-type': 'application/json', accept, ...headers },
        body: JSON.stringify(body),
      }),
  };
}

/**
 * Writes the manifest, the graph and the tokenizer of the small model.
 *
 * @param changes fields of the manifest in place of its own.
 * @returns path of the graph.
 */
export async function writeModelsFolder(
  modelsDir: string,
  heads?: readonly Head[],
  changes: Readonly<Record<string, unknown>> = {},
): Promise<string> {
  const folder = join(modelsDir, SMALL_MODEL);
  mkdirSync(join(folder, 'onnx'), { recursive: true });
  const manifest = JSON.parse(readFileSync(join(MODELS, 'bge-m3.json'), 'utf8'));
  Object.assign(manifest, { id: SMALL_MODEL, dimension: 32, tokenCountMax: 512 }, changes);
  if (heads !== undefined) {
    manifest.heads = heads;
    manifest.outputs = Object.fromEntries(heads.map((head) => [head, manifest.outputs[head]]));
  }
  writeFileSync(join(modelsDir, `${SMALL_MODEL}.json`), JSON.stringify(manifest));
  const tokenizer = join(MODELS, 'multilingual-e5-small/tokenizer.json');
  symlinkSync(tokenizer, join(folder, 'tokenizer.json'));
  const graph = join(folder, 'onnx/model.onnx');
  await writeSmallModel(graph);
  return graph;
}

/** Writes a repository with the graph whole, and with its dense head alone. */
export function writeTritonModels(repository: string, path: string): void {
  const { dense_vecs } = SMALL_MODEL_OUTPUTS;
  const shared = { kind: 'onnx', datatype: 'INT64', dimension: 32, maxBatch: BATCH_MAX } as const;
  writeRepository({
    dir: repository,
    models: [
      { ...shared, name: SMALL_MODEL, onnx: { path, outputs: SMALL_MODEL_OUTPUTS } },
      { ...shared, name: DENSE_ONLY_MODEL, onnx: { path, outputs: { dense_vecs } } },
    ],
  });
}
