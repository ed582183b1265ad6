import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core';
import { findRuntime } from '../../src/testing/programs/client-runtimes.ts';
import {
  answerRows,
  answerUnavailable,
  startScriptedClient,
} from '../../src/testing/scripted-client.ts';
import { scriptedRow } from '../../src/testing/scripted-encode-server.ts';
import { type BuiltFile, buildClient, packClient } from './build-client.ts';

/**
 * What the README states, in bytes after gzip: 17 kB are the first and the last. Measured: 10,205,
 * 672 and 6,200.
 */
const GZIP_BYTES_MAX: Readonly<Record<string, number>> = {
  'api-encoder.js': 10_500,
  'progress-bar.js': 1000,
  'msgpackr.js': 6500,
};
/** As npm packs it, in bytes; what the script packs is smaller, 56,000. */
const PACK_BYTES_MAX = 64_000;

/** A line of the built code, at most: some tokens are longer than the place that is left. */
const LINE_MAX = 700;

const PACKAGE = 'bge-m3-encoder-client';
const ROOT = resolve(import.meta.dir, '../..');

/** Of a name that it signed itself, for tests and nothing else. */
const TLS = join(ROOT, 'src/testing/http/tls');
const CERTIFICATE = {
  cert: Bun.file(join(TLS, 'test-certificate.pem')),
  key: Bun.file(join(TLS, 'test-key.pem')),
};

// Compilers and npm start slowly on a machine that is busy with other tests.
setDefaultTimeout(120_000);

/** A project that has installed the packed client with npm, and nothing else. */
let project = '';
let installed = '';
let tarball = '';
let files: readonly BuiltFile[] = [];

beforeAll(async () => {
  project = await mkdtemp(join(tmpdir(), 'encoder-client-'));
  const built = join(project, 'built');
  files = await buildClient(built);
  tarball = await packClient(built, project);
  await Bun.write(join(project, 'package.json'), '{"type":"module"}');
  const flags = ['--offline', '--no-audit', '--no-fund'];
  expect(await run(['npm', 'install', ...flags, tarball])).toMatchObject({ status: 0 });
  installed = join(project, 'node_modules', PACKAGE);
});

afterAll(() => rm(project, { recursive: true, force: true }));

async function run(command: readonly string[]) {
  const child = Bun.spawn([...command], { cwd: project, stdout: 'pipe', stderr: 'pipe' });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { status: await child.exited, stdout, stderr };
}

describe('the packed client', () => {
  test('is as small as the README says, built and packed', async () => {
    for (const [name, byteCountMax] of Object.entries(GZIP_BYTES_MAX)) {
      const file = files.find((built) => built.name === name);
      expect([name, file?.gzipByteCount]).toEqual([name, expect.any(Number)]);
      expect(file?.gzipByteCount).toBeLessThanOrEqual(byteCountMax);
    }
    const { stdout } = await run(['npm', 'pack', '--json', '--dry-run', join(project, 'built')]);
    expect(JSON.parse(stdout)[0].size).toBeLessThan(PACK_BYTES_MAX);
    expect(Bun.file(tarball).size).toBeLessThan(PACK_BYTES_MAX);
  });

  test('has its licence and its README, and depends on nothing', async () => {
    const manifest = await Bun.file(join(installed, 'package.json')).json();
    expect(manifest).toMatchObject({ name: PACKAGE, license: 'MIT', engines: { node: '>=20' } });
    expect(Object.keys(manifest)).not.toContain('dependencies');
    for (const name of ['LICENSE', 'README.md']) {
      expect([name, await Bun.file(join(installed, name)).exists()]).toEqual([name, true]);
    }
  });

  test('imports only its own files, and tells nothing of the machine that built it', async () => {
    const names = [...new Bun.Glob('**/*.{js,cjs,map,ts,cts}').scanSync(installed)];
    expect(names.length).toBeGreaterThan(10);
    for (const name of names) {
      const code = await Bun.file(join(installed, name)).text();
      expect([name, code.includes(ROOT) || code.includes(project)]).toEqual([name, false]);
      if (!/\.c?js$/.test(name)) continue;
      const imported = new Bun.Transpiler({ loader: 'js' }).scan(code).imports;
      expect(imported.filter(({ path }) => !/^\.\/msgpackr\.c?js$/.test(path))).toEqual([]);
    }
  });

  test('exports what the documentation names', async () => {
    const scan = async (name: string) => {
      const code = await Bun.file(join(installed, name)).text();
      return new Bun.Transpiler({ loader: 'js' }).scan(code).exports.sort();
    };
    expect(await scan('api-encoder.js')).toEqual(['APIEncoder', 'APIEncoderError']);
    expect(await scan('progress-bar.js')).toEqual(['createProgressBar']);
  });

  test('maps its minified code to our lines', async () => {
    const map = await Bun.file(join(installed, 'api-encoder.js.map')).json();
    expect(map.sources).toContain('src/client/transport.ts');
    expect(map.sources.filter((source: string) => !source.startsWith('src/client/'))).toEqual([]);
    const code = await Bun.file(join(installed, 'api-encoder.js')).text();
    expect(code).toContain('//# sourceMappingURL=api-encoder.js.map');
  });
});

describe('its types', () => {
  test('are found in every way, each with the kind of module that runs', async () => {
    const read = createPackageFromTarballData(await Bun.file(tarball).bytes());
    const entrypoints = ['.', './progress-bar'];
    const result = await checkPackage(read, { entrypoints });
    expect(result.types).not.toBe(false);
    expect('problems' in result ? result.problems : result).toEqual([]);
  });

  const tsc = join(ROOT, 'node_modules/.bin/tsc');
  /** The last TypeScript that knows how Node 10 looked for modules. */
  const oldTsc = join(ROOT, 'node_modules/@arethetypeswrong/core/node_modules/typescript/bin/tsc');
  test.each([
    ['nodenext', tsc, ['--module', 'nodenext'], 'consumer.ts'],
    ['nodenext from CommonJS', tsc, ['--module', 'nodenext'], 'consumer.cts'],
    ['bundler', tsc, ['--module', 'esnext', '--moduleResolution', 'bundler'], 'consumer.ts'],
    ['node10', oldTsc, ['--module', 'commonjs', '--moduleResolution', 'node10'], 'consumer.cts'],
  ])('stand without ours: %s', async (_, compiler, resolution, file) => {
    await Bun.write(join(project, 'consumer.ts'), CONSUMER);
    await Bun.write(join(project, 'consumer.cts'), CONSUMER);
    const flags = ['--noEmit', '--strict', '--target', 'es2022', '--lib', 'ESNext,DOM'];
    const node = process.execPath;
    const command = [node, compiler, ...flags, ...resolution, file];
    const { status, stdout } = await run(command);
    expect({ status, stdout }).toEqual({ status: 0, stdout: '' });
  });
});

const IMPORT = `import { APIEncoder, APIEncoderError } from '${PACKAGE}';`;
const REQUIRE = `const { APIEncoder, APIEncoderError } = require('${PACKAGE}');`;

const RUNTIMES = [
  ['Node 20', () => [findRuntime('node-20')]],
  ['Node 22', () => [findRuntime('node-22')]],
  ['Deno', () => [findRuntime('deno'), 'run', '--allow-net', '--allow-read', '--allow-env']],
  ['Bun', () => [process.execPath]],
] as const;

/** Runs a script with the address of a scripted server, which fails once. */
async function runScript(command: readonly string[], file: string) {
  await using scripted = startScriptedClient([answerUnavailable, answerRows]);
  return await run([...command, file, scripted.server.url]);
}

describe('it runs', () => {
  const texts = Array.from({ length: 200 }, (_, index) => `статья ${index}`);
  const seen = {
    first: [...scriptedRow('договор')],
    rows: texts.map((text) => [...scriptedRow(text)]),
    isOneMatrix: true,
    streamedCount: 200,
    aborted: 'the tab was closed',
    closed: ['APIEncoderError', 'APIEncoderError', 'CLIENT_CLOSED', true],
  };

  test.each(RUNTIMES)('in %s', async (_, command) => {
    await Bun.write(join(project, 'script.js'), `${IMPORT}${SCRIPT}`);
    const { status, stdout, stderr } = await runScript(command(), 'script.js');
    // Among what must not be there: a warning of too many listeners.
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(JSON.parse(stdout)).toEqual(seen);
  });

  test.each(RUNTIMES)('as CommonJS in %s', async (_, command) => {
    await Bun.write(join(project, 'script.cjs'), `${REQUIRE}(async () => {${SCRIPT}})();`);
    const { status, stdout, stderr } = await runScript(command(), 'script.cjs');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(JSON.parse(stdout)).toEqual(seen);
  });

  test('bundled for a browser and minified: error classes keep their names', async () => {
    await Bun.write(join(project, 'page.js'), `${IMPORT}${SCRIPT}`);
    const options = { target: 'browser', minify: true, outdir: join(project, 'bundle') } as const;
    const built = await Bun.build({ entrypoints: [join(project, 'page.js')], ...options });
    expect(built.outputs.length).toBe(1);
    const { status, stdout } = await runScript([findRuntime('node-22')], built.outputs[0].path);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toEqual(seen);
  });
});

describe('an error that nobody catches', () => {
  // Planted and caught: lines not broken; the map of the one line kept.
  const nodes = RUNTIMES.filter(([name]) => name.startsWith('Node'));
  const kinds = [
    ['script.mjs', IMPORT],
    ['script.cjs', REQUIRE],
  ] as const;
  const cases = nodes.flatMap(([name, command]) =>
    kinds.map(([file, first]) => [name, file, command, first] as const),
  );
  test.each(cases)(
    'is printed in lines that can be read: %s, %s',
    async (_, file, command, first) => {
      await Bun.write(join(project, file), `${first}${UNCAUGHT}`);
      const { status, stderr } = await run([...command(), file]);
      expect(status).toBe(1);
      expect(stderr).toContain("code: 'CLIENT_CONNECTION_FAILED'");
      expect(Math.max(...stderr.split('\n').map(({ length }) => length))).toBeLessThan(LINE_MAX);
    },
  );

  test('has our own lines in its trace, by the map', async () => {
    await Bun.write(join(project, 'script.mjs'), `${IMPORT}${UNCAUGHT}`);
    const command = [findRuntime('node-20'), '--enable-source-maps', 'script.mjs'];
    const { stderr } = await run(command);
    expect(stderr).toMatch(/at .*\/src\/client\/api-encoder-error\.ts:\d+:\d+/);
  });
});

describe('why there is no reply', () => {
  // Planted and caught: each pattern of connection-error.ts taken out, and the question by https.
  test.each(RUNTIMES)('in %s', async (_, command) => {
    const fetch = (): Response => new Response('');
    const local = { hostname: '127.0.0.1', port: 0, fetch };
    const secure = Bun.serve({ ...local, tls: CERTIFICATE });
    const plain = Bun.serve(local);
    const gone = Bun.serve(local);
    const wrong = {
      CLIENT_CERTIFICATE_INVALID: `https://localhost:${secure.port}`,
      CLIENT_SCHEME_WRONG: `https://localhost:${plain.port}`,
      'CLIENT_SCHEME_WRONG, http': `http://localhost:${secure.port}`,
      CLIENT_HOST_UNKNOWN: 'http://no-such-host.invalid',
      CLIENT_CONNECTION_REFUSED: `http://127.0.0.1:${gone.port}`,
    };
    await gone.stop(true);
    await Bun.write(join(project, 'failures.js'), FAILURES);
    try {
      const script = [...command(), 'failures.js', JSON.stringify(Object.values(wrong))];
      const { stdout } = await run(script);
      const tries = { CLIENT_CONNECTION_REFUSED: 2 };
      expect(JSON.parse(stdout)).toEqual(
        Object.keys(wrong).map((name) => {
          const [code] = name.split(',');
          return [code, tries[code as keyof typeof tries] ?? 1, true];
        }),
      );
    } finally {
      await Promise.all([secure.stop(true), plain.stop(true)]);
    }
  });
});

const CONSUMER = `
import { APIEncoder, APIEncoderError, type EncodedText } from '${PACKAGE}';
import { createProgressBar } from '${PACKAGE}/progress-bar';
const encoder = new APIEncoder('http://localhost:8080', { concurrency: 4 });
export async function use(): Promise<void> {
  const row: Float32Array = await encoder.encode('a', createProgressBar());
  const rows: Float32Array[] = await encoder.encode(['a']);
  const text: EncodedText = await encoder.encodeHeads('a');
  // @ts-expect-error A row is no string.
  const wrong: string = await encoder.encode('a');
  for await (const streamed of encoder.encodeStream(['a'])) streamed.fill(0);
  try {
    await encoder.close();
  } catch (error) {
    if (error instanceof APIEncoderError && error.code === 'CLIENT_TIMEOUT') error.message.at(0);
  }
}
`;

/** Port 1 is one that no `fetch` connects to. */
const UNCAUGHT = `
const encoder = new APIEncoder('http://127.0.0.1:1', { retriesMax: 0 });
encoder.encode('a');
`;

const FAILURES = `
${IMPORT}
const told = [];
for (const url of JSON.parse(process.argv[2])) {
  const encoder = new APIEncoder(url, { retriesMax: 1, retryDelayMs: 1 });
  const error = await encoder.encode('a').catch((error) => error);
  told.push([error.code, error.tryCount, error.message.includes(new URL(url).hostname)]);
}
console.log(JSON.stringify(told));
process.exit();
`;

const SCRIPT = `
const options = { requestTextsMax: 3, concurrency: 32, retryDelayMs: 1 };
const encoder = new APIEncoder(process.argv[2], options);
const first = [...(await encoder.encode('договор'))];
const texts = Array.from({ length: 200 }, (_, index) => 'статья ' + index);
const rows = await encoder.encode(texts);
let streamedCount = 0;
for await (const row of encoder.encodeStream(texts)) streamedCount += row.length / 3;
const caller = new AbortController();
const call = encoder.encode(texts, { signal: caller.signal });
caller.abort(new Error('the tab was closed'));
const aborted = await call.catch((error) => error.message);
await encoder.close();
const closed = await encoder
  .health()
  .catch((error) => [error.name, error.constructor.name, error.code, error instanceof APIEncoderError]);
const isOneMatrix = rows.every((row) => row.buffer === rows[0].buffer);
const seen = { first, rows: rows.map((row) => [...row]), isOneMatrix, streamedCount, aborted, closed };
console.log(JSON.stringify(seen));
`;
