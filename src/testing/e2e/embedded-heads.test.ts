/**
 * `./run.sh --backend embedded` with a model of BGE-M3's kind, the small one in its place: the real
 * script, set-up, export and server, from a hub on the loopback or from a folder, to its vectors.
 */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { HUB_FILES, REPOSITORY, REVISION } from '../export/export-fixture.ts';
import { readHeads } from '../golden/heads-reply.ts';
import { loadGolden, SMALL_MODEL_FOLDER } from '../golden/xlmr-small.ts';
import { type LoopbackHub, startLoopbackHub } from '../hub/loopback-hub.ts';
import { until } from '../until.ts';

setDefaultTimeout(120_000);

const ROOT = join(import.meta.dir, '../../..');
const TOKENIZER = join(ROOT, 'models/multilingual-e5-small/tokenizer.json');
const FILES = [...HUB_FILES, 'tokenizer.json'];
const SERVE = ['--backend', 'embedded', '--model', 'small', '--port', '0', '--host', '127.0.0.1'];

let root: string;
let hub: LoopbackHub;
let stageCount = 0;

function contentOf(path: string): Uint8Array {
  if (path === 'tokenizer.json') return readFileSync(TOKENIZER);
  return readFileSync(join(SMALL_MODEL_FOLDER, 'hub', path.replace('onnx/', '')));
}

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'embedded-heads-'));
  hub = await startLoopbackHub();
  for (const path of FILES) {
    hub.put({ repository: REPOSITORY, revision: REVISION, path, content: contentOf(path) });
  }
});

afterAll(async () => {
  await hub?.close();
  rmSync(root, { recursive: true, force: true });
});

/**
 * A folder that is this repository, but for its models: those are one manifest without its files.
 * What was installed here counts as installed there.
 */
function stage(): string {
  stageCount++;
  const folder = join(root, String(stageCount));
  mkdirSync(join(folder, 'models/bge_model'), { recursive: true });
  for (const name of ['src', 'scripts', 'workers', 'node_modules']) {
    symlinkSync(join(ROOT, name), join(folder, name));
  }
  for (const name of ['run.sh', 'package.json', 'bun.lock', 'compose.yml']) {
    cpSync(join(ROOT, name), join(folder, name));
  }
  mkdirSync(join(folder, '.tools/stamps'), { recursive: true });
  cpSync(join(ROOT, 'bun.lock'), join(folder, '.tools/stamps/dependencies-all'));
  cpSync(
    join(ROOT, 'models/bge_model/config.pbtxt'),
    join(folder, 'models/bge_model/config.pbtxt'),
  );
  const manifest = JSON.parse(readFileSync(join(ROOT, 'models/bge-m3.json'), 'utf8'));
  Object.assign(manifest, { id: 'small', dimension: 32, tokenCountMax: 512 });
  // The graph names the constant's file; the manifest does not have to.
  const files = [...HUB_FILES.slice(0, 4), 'tokenizer.json'].map((path) => ({ path }));
  manifest.source = { kind: 'hub', repository: REPOSITORY, revision: REVISION, files };
  writeFileSync(join(folder, 'models/small.json'), JSON.stringify(manifest));
  return folder;
}

/** Starts `./run.sh` there. Nothing of the tests' environment leaks in. */
function start(folder: string, line: readonly string[], environment: Record<string, string> = {}) {
  const path = [dirname(process.execPath), process.env.PATH].join(':');
  const child = Bun.spawn([join(folder, 'run.sh'), ...line], {
    // int8, which would be chosen where the processor multiplies bytes, is held by tests of its own.
    env: {
      PATH: path,
      HOME: root,
      EMBEDDED_MODEL_FILE: 'onnx/model-float32.onnx',
      ...environment,
    },
    stdin: 'ignore',
    stdout: 'ignore',
    stderr: 'pipe',
  });
  let said = '';
  const read = async (): Promise<void> => {
    const decoder = new TextDecoder();
    for await (const chunk of child.stderr) said += decoder.decode(chunk, { stream: true });
  };
  const ended = read();
  return {
    said: () => said,
    end: async (): Promise<void> => {
      child.kill('SIGTERM');
      await child.exited;
    },
    exited: async (): Promise<number> => {
      await ended;
      return child.exited;
    },
    /** Its address, once it serves. */
    async served(): Promise<string> {
      await until('run.sh serves', () => {
        if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}: ${said}`);
        return said.includes('"event":"started"') || /\bstarted\b.*"ready":true/.test(said);
      });
      return /http:\/\/127\.0\.0\.1:\d+/.exec(said)?.[0] ?? '';
    },
  };
}

async function expectGoldenHeads(url: string): Promise<void> {
  const { texts } = await loadGolden();
  const outputs = ['dense', 'sparse', 'multi_vector'];
  const body = JSON.stringify({ query: texts.map(({ text }) => text), outputs });
  const headers = { 'content-type': 'application/json', accept: 'application/msgpack' };
  const found = await readHeads(await fetch(`${url}/encode`, { method: 'POST', headers, body }));
  texts.forEach((wanted, at) => {
    const { dense, sparse, multiVector } = found.texts[at];
    const near = (a: ArrayLike<number> = [], b: ArrayLike<number> = []): void => {
      expect(a.length).toBe(b.length);
      for (let index = 0; index < b.length; index++) {
        expect(Math.abs(a[index] - b[index])).toBeLessThan(1e-5);
      }
    };
    near(dense, wanted.dense);
    near(multiVector, wanted.multiVector);
    expect(sparse?.indices).toEqual(wanted.sparse.indices.toSorted((a, b) => a - b));
  });
  const dimension = await (await fetch(`${url}/get_vector_dim`)).json();
  expect(dimension).toEqual({ vector_dim: 32, model: 'small' });
}

test('from the hub: the first start fetches, exports and serves; the second serves', async () => {
  const folder = stage();
  const first = start(folder, SERVE, { HF_ENDPOINT: hub.url });
  await expectGoldenHeads(await first.served());
  expect(first.said()).toContain('onnx/model.onnx');
  await first.end();
  const seen = hub.requests.length;
  expect(seen).toBeGreaterThanOrEqual(FILES.length);
  const second = start(folder, SERVE);
  await expectGoldenHeads(await second.served());
  expect(second.said()).not.toContain('export:');
  expect(hub.requests.length).toBe(seen);
  await second.end();
});

test('from a folder: the export by hand, then a start without any hub', async () => {
  const folder = stage();
  const given = join(root, 'given');
  mkdirSync(given);
  for (const path of FILES) writeFileSync(join(given, basename(path)), contentOf(path));
  const line = ['export', '--model', 'small', '--from', given, '--graph-only'];
  const exported = start(folder, line);
  expect([await exported.exited(), exported.said()]).toEqual([0, expect.any(String)]);
  const nowhere = { HF_ENDPOINT: 'http://127.0.0.1:1' };
  const served = start(folder, SERVE, nowhere);
  await expectGoldenHeads(await served.served());
  await served.end();
});

test('a hub that does not have the model is told of in one line, and nothing is left', async () => {
  const folder = stage();
  const empty = await startLoopbackHub();
  const refused = start(folder, SERVE, { HF_ENDPOINT: empty.url });
  expect(await refused.exited()).toBe(12);
  await empty.close();
  expect(refused.said()).toContain('404');
  expect(refused.said()).toContain('the files of small could not be had');
  expect(existsSync(join(folder, 'models/small/onnx/model.onnx'))).toBe(false);
});
