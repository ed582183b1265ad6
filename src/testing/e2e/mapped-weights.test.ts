import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { openEngine } from '../../backend/local/inference-engine.ts';
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
const file = usableModelFile(join(MODELS, NAME), manifest.files);
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
async function serve(
  more: Record<string, string> = {},
  then: (server: { stderr(): string }) => Promise<void> = async () => undefined,
) {
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
    await then(server);
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

/** As a bad disk or a bad copy leaves a file: the same length, other bytes. */
function flip(path: string, { from, step }: { from: number; step: number }): void {
  const file = openSync(path, 'r+');
  const page = Buffer.alloc(4096);
  for (let at = from; at < statSync(path).size - page.length; at += step) {
    readSync(file, page, 0, page.length, at);
    writeSync(
      file,
      page.map((byte) => byte ^ 0x55),
      0,
      page.length,
      at,
    );
  }
  closeSync(file);
}

// Planted by hand: no second try in openEngine, where the server never started; no warning; bytes
// that are not hashed, where the flipped page was in words that the recorded text does not have.
test.each<[string, () => void, string]>([
  [
    'cut short',
    () => truncateSync(weightsPath, Math.floor(statSync(weightsPath).size / 2)),
    'is damaged',
  ],
  ['flipped all over', () => flip(weightsPath, { from: 5_000_000, step: 4_000_000 }), 'is damaged'],
  ['flipped in one page', () => flip(weightsPath, { from: 9_000_000, step: 1e12 }), 'is damaged'],
  [
    'without its record',
    () => rmSync(join(dirname(mappedPath), 'weights.check.json')),
    'has no weights.check.json',
  ],
])('a copy that is %s is told of once, set aside and made anew', async (_what, spoil, reason) => {
  const whole = await serve();
  spoil();
  const served = await serve({}, (server) =>
    until('it is made anew', () => server.stderr().includes('mapped-weights-set-aside')),
  );
  expect(served).toMatchObject({ rows: whole.rows, isMapped: false });
  expect(served.warnings.map((line) => JSON.parse(line))).toMatchObject([
    { level: 'warn', event: 'mapped-weights-refused', reason: expect.stringContaining(reason) },
  ]);
  expect(await serve()).toEqual(whole);
  expect(readdirSync(join(folder, 'onnx')).filter((name) => name.includes('.damaged'))).toEqual([]);
});

test('a record of other rows refuses the copy', async () => {
  const path = join(dirname(mappedPath), 'weights.check.json');
  const record = JSON.parse(readFileSync(path, 'utf8'));
  record.rows.dense.reverse();
  await Bun.write(path, JSON.stringify(record));
  const modelPath = join(folder, file?.path ?? '');
  const { outputs, dimension } = manifest;
  const threads = { threadCount: 1, wideThreadCount: 0 };
  const engine = await openEngine({ modelPath, mappedPath, outputs, dimension, ...threads });
  expect(engine.ready.mappedRefusal).toContain('its dense row is not the recorded one');
  await engine.release();
});

test('a model file that is damaged itself does not serve', async () => {
  const own = join(folder, file?.path ?? '');
  const bytes = readFileSync(own);
  rmSync(own);
  bytes[bytes.length >> 1] ^= 0x55;
  await Bun.write(own, bytes);
  await withoutCopy(join(modelsDir, 'aside'), async () => {
    const server = await startProcess({ MODELS_DIR: modelsDir, WORKER_RESTARTS_MAX: '0' });
    expect(await server.exited).not.toBe(0);
    expect(server.stderr()).toContain('it is not the file of the manifest');
  });
});
