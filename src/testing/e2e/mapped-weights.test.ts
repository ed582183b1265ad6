import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { usableModelFile } from '../../backend/local/model-file.ts';
import { loadManifest } from '../../model/manifest.ts';
import { ensureMappedCopy } from '../../provision/mapped/mapped-copy.ts';
import { until } from '../until.ts';
import { startProcess } from './start-process.ts';

/** The embedded default with and without the copy of its weights that is mapped. */

setDefaultTimeout(60_000);

const MODELS = join(import.meta.dir, '../../../models');
const NAME = 'multilingual-e5-small';
const TEXTS = ['исковая давность', 'Ёлка — «это» №5', 'а', 'договор аренды '.repeat(40)];
const manifest = await loadManifest({ modelsDir: MODELS, name: NAME });
const file = usableModelFile(manifest.files);
const modelsDir = mkdtempSync(join(tmpdir(), 'mapped-weights-'));
const folder = join(modelsDir, NAME);
let mappedPath: string;
let weightsPath: string;

/** The model's own files, linked, with a copy of their own beside them. */
beforeAll(async () => {
  copyFileSync(`${join(MODELS, NAME)}.json`, `${folder}.json`);
  mkdirSync(join(folder, 'onnx'), { recursive: true });
  const places = ['', 'onnx'].flatMap((place) =>
    readdirSync(join(MODELS, NAME, place)).map((name) => join(place, name)),
  );
  for (const path of places) {
    const source = join(MODELS, NAME, path);
    if (statSync(source).isFile()) symlinkSync(source, join(folder, path));
  }
  [mappedPath = '', weightsPath = ''] = await ensureMappedCopy({
    ...{ manifest, folder, log: () => undefined },
    importWriter: () => import('../../provision/mapped/write-mapped-copy.ts'),
  });
});

afterAll(() => rmSync(modelsDir, { recursive: true, force: true }));

/** What a server with two workers answers, what it maps and what it warns of. */
async function serve(more: Record<string, string> = {}) {
  const server = await startProcess({ MODELS_DIR: modelsDir, EMBEDDED_SLOTS: '2', ...more });
  try {
    await until('it has started', () => server.stderr().includes('"event":"started"'));
    const rows: string[] = [];
    for (const query of TEXTS) {
      const reply = await fetch(`${server.url}/encode`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          accept: 'application/json; encoding=base64',
        },
        body: JSON.stringify({ query }),
      });
      rows.push(((await reply.json()) as { embedding: string }).embedding);
    }
    const warnings = server.stderr().split('\n');
    return {
      rows,
      isMapped: isLinux && readFileSync(`/proc/${server.pid}/maps`, 'utf8').includes(weightsPath),
      warnings: warnings.filter((line) => line.includes('"warn"') || line.includes('"error"')),
    };
  } finally {
    server.signal('SIGKILL');
    await server.exited;
  }
}

const isLinux = process.platform === 'linux';

/** Moves the copy out of the way for as long as `run` takes. */
async function withoutCopy<T>(elsewhere: string, run: () => Promise<T>): Promise<T> {
  renameSync(dirname(mappedPath), elsewhere);
  try {
    return await run();
  } finally {
    renameSync(elsewhere, dirname(mappedPath));
  }
}

// Planted by hand: a copy of other weights; no copy for a file that a setting names.
test('a server maps the copy, and answers the bits of the plain file', async () => {
  const plain = await withoutCopy(join(modelsDir, 'aside'), () => serve());
  expect(plain).toMatchObject({ isMapped: false, warnings: [] });
  expect(new Set(plain.rows).size).toBe(TEXTS.length);
  const mapped = { rows: plain.rows, isMapped: isLinux, warnings: [] };
  expect(await serve()).toEqual(mapped);
  expect(await serve({ EMBEDDED_MODEL_FILE: file?.path ?? '' })).toEqual(mapped);
});

test('a copy of another runtime is not looked at', async () => {
  const older = dirname(mappedPath).replace(/mapped-[\d.]+/, 'mapped-1.0.0');
  expect(older).not.toBe(dirname(mappedPath));
  const served = await withoutCopy(older, () => serve());
  expect(served).toMatchObject({ isMapped: false, warnings: [] });
});

/** A session of the plain file has 48 MB and more of its own. */
const FURTHER_MB_MAX = 15;

// Planted by hand: the plain file for all, and for the wide session alone.
test.skipIf(!isLinux)('a further session adds next to no memory (needs /proc)', async () => {
  const { outputs, dimension } = manifest;
  const modelPath = join(folder, file?.path ?? '');
  const init = {
    ...{ modelPath, mappedPath, outputs, dimension },
    ...{ threadCount: 1, wideThreadCount: 2 },
  };
  const script = `
    import { readFileSync } from 'node:fs';
    import { openEngine } from './src/backend/local/inference-engine.ts';
    const megabytes = () => {
      const [, kilobytes] = /^Anonymous: +([0-9]+)/m.exec(readFileSync('/proc/self/smaps_rollup'));
      return kilobytes / 1024;
    };
    const found = [];
    for (let count = 0; count < 3; count++) {
      const engine = await openEngine(${JSON.stringify(init)});
      found.push(megabytes());
      if (count < 2) continue;
      await engine.widen();
      found.push(megabytes());
    }
    console.log(JSON.stringify(found));
  `;
  const child = Bun.spawn([process.execPath, '-e', script], { stderr: 'inherit' });
  const [first, second, third, wide] = JSON.parse(await new Response(child.stdout).text());
  const added = [second - first, third - second, wide - third];
  expect(added.filter((megabytes) => !(megabytes < FURTHER_MB_MAX))).toEqual([]);
});

// Planted by hand: no second try in openEngine, where the server never started; no warning.
test('a copy that is cut short is told of once, and the plain file serves', async () => {
  const whole = await serve();
  truncateSync(weightsPath, Math.floor(statSync(weightsPath).size / 2));
  const served = await serve();
  expect(served).toMatchObject({ rows: whole.rows, isMapped: false });
  expect(served.warnings.length).toBe(1);
  expect(JSON.parse(served.warnings[0])).toMatchObject({
    level: 'warn',
    event: 'mapped-weights-refused',
    reason: expect.stringContaining('out of bounds'),
  });
});
