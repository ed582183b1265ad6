import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ServerProcess, startProcess } from '../../../src/testing/e2e/start-process.ts';
import { type FakeTriton, startFakeTriton } from '../../../src/testing/fake-triton.ts';
import { freePorts } from '../../../src/testing/triton/free-ports.ts';
import { type RunningTriton, startTriton } from '../../../src/testing/triton/start-triton.ts';
import {
  type TritonModelKind,
  writeRepository,
} from '../../../src/testing/triton/write-repository.ts';
import { until } from '../../../src/testing/until.ts';
import { damageWeights, linkModel } from './damaged-weights.ts';
import { learnRows } from './fault-load.ts';
import { regionsOf } from './regions.ts';

const MODEL = 'bge_model';
const DIMENSION = 1024;

/** What stands behind the server at its first endpoint. */
export type FirstEndpoint = 'real' | 'fake' | 'embedded';

/** A live server on one or two endpoints, of which the first one gets into trouble. */
export interface FaultRig {
  readonly server: ServerProcess;
  /** The first endpoint, when it is a real Triton. */
  readonly triton: RunningTriton;
  /** The first endpoint, when it is a fake one. */
  readonly fake: FakeTriton;
  readonly controlFile: string;
  /** The right row of each text. */
  readonly rows: ReadonlyMap<string, string>;
  /** Puts another kind of model into the repository of the real Triton; it is loaded by a restart. */
  writeModel(kind: TritonModelKind): void;
  /**
   * Kills the server. Where it shared memory with a real Triton, another one starts after it, and is
   * ended politely.
   *
   * @returns regions of shared memory that are left of the two, as files or at Triton.
   */
  close(): Promise<number>;
}

/** @param options.isFullDisk the server's log goes to a full device from its start. */
export async function openRig(options: {
  first: FirstEndpoint;
  hasSecond: boolean;
  isFullDisk: boolean;
  hasDamagedWeights?: boolean;
  environment?: Readonly<Record<string, string>>;
}): Promise<FaultRig> {
  const { first, hasSecond } = options;
  const dir = mkdtempSync(join(tmpdir(), 'fault-matrix-'));
  const controlFile = join(dir, 'control.json');
  const repository = join(dir, 'repository');
  const writeModel = (kind: TritonModelKind): void =>
    writeRepository({
      dir: repository,
      models: [
        {
          name: MODEL,
          kind,
          datatype: 'INT64',
          dimension: DIMENSION,
          maxBatch: 32,
          output: 'dense_vecs',
          ...(kind === 'faulty' ? { faults: { controlFile } } : {}),
        },
      ],
    });
  const shape = { datatype: 'INT64', dimension: DIMENSION, batchTextsMax: 32 } as const;
  writeModel('faulty');
  const triton = first === 'real' ? await startTriton({ repository }) : undefined;
  const fake = first === 'fake' ? await startFakeTriton({ model: MODEL, ...shape }) : undefined;
  const second = hasSecond ? await startFakeTriton({ model: MODEL, ...shape }) : undefined;
  const urls = [triton?.url ?? fake?.url, second?.url].filter((url) => url !== undefined);
  const environment: Record<string, string> =
    first === 'embedded'
      ? { BACKEND: 'embedded', EMBEDDED_SLOTS: hasSecond ? '2' : '1' }
      : { BACKEND: 'triton', MODEL: 'bge-m3', TRITON_URL: urls.join(',') };
  if (options.hasDamagedWeights) environment.MODELS_DIR = linkModel(dir);
  const settings = { ...environment, ...SETTINGS, ...options.environment };
  let server = await startReady(settings, options.isFullDisk);
  const rows = await learnRows(server.url);
  if (options.hasDamagedWeights) {
    server.signal('SIGKILL');
    await server.exited;
    damageWeights(dir);
    server = await startReady(settings, options.isFullDisk);
  }
  return {
    server,
    rows,
    get triton() {
      if (triton === undefined) throw new Error('the first endpoint is no real Triton');
      return triton;
    },
    get fake() {
      if (fake === undefined) throw new Error('the first endpoint is no fake Triton');
      return fake;
    },
    controlFile,
    writeModel,
    async close() {
      server.signal('SIGKILL');
      await server.exited;
      const regionCount =
        triton === undefined ? 0 : await regionsAfter(server.pid, triton, settings);
      await triton?.stop();
      await fake?.stop();
      await second?.stop();
      rmSync(dir, { recursive: true, force: true });
      return regionCount;
    },
  };
}

/** Regions of a killed server, and of the next one when it has ended. */
async function regionsAfter(
  killedPid: number,
  { url }: RunningTriton,
  settings: Record<string, string>,
): Promise<number> {
  const next = await startReady({ ...settings, TRITON_URL: url }, false);
  const ofKilled = await regionsOf(killedPid, url);
  next.signal('SIGTERM');
  await next.exited;
  return ofKilled.length + (await regionsOf(next.pid, url)).length;
}

async function startReady(
  environment: Record<string, string>,
  isFullDisk: boolean,
): Promise<ServerProcess> {
  const server = await startServerProcess(environment, isFullDisk);
  await until('the server is ready', async () => {
    return (await fetch(`${server.url}/ready`)).status === 200;
  });
  return server;
}

/** Short deadlines, so that the matrix takes minutes; the table's caption names them. */
const SETTINGS = {
  TRITON_TIMEOUT_MS: '3000',
  TRITON_PROBE_MS: '250',
  REQUEST_TIMEOUT_MS: '15000',
  TOKENIZER_WORKERS: '1',
  TOKENIZER_INLINE_UNITS: '0',
  BUN_OPTIONS: `--preload ${join(import.meta.dir, 'killable-workers.ts')}`,
};

async function startServerProcess(
  environment: Record<string, string>,
  isFullDisk: boolean,
): Promise<ServerProcess> {
  if (!isFullDisk) return await startProcess(environment);
  const [port = 0] = freePorts(1);
  const child = Bun.spawn(['sh', '-c', 'exec "$0" src/main.ts 2>/dev/full', process.execPath], {
    cwd: join(import.meta.dir, '../../..'),
    stdio: ['ignore', 'ignore', 'ignore'],
    env: {
      PATH: process.env.PATH ?? '',
      HOST: '127.0.0.1',
      PORT: String(port),
      LOG_LEVEL: 'debug',
      ...environment,
    },
  });
  const url = `http://127.0.0.1:${port}`;
  await until('the server answers', async () => {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`);
    return await fetch(`${url}/health`).then(
      () => true,
      () => false,
    );
  });
  const { pid, exited } = child;
  return { url, pid, exited, stderr: () => '', signal: (name) => child.kill(name) };
}
