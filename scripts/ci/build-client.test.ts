import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import packageJson from '../../package.json';
import {
  answerRows,
  answerUnavailable,
  startScriptedClient,
} from '../../src/testing/scripted-client.ts';
import { scriptedRow } from '../../src/testing/scripted-encode-server.ts';
import { type BuiltFile, buildClient } from './build-client.ts';

/**
 * What the README states, in bytes after gzip; about half of it is msgpackr. Measured: 12,346 and
 * 727.
 */
const GZIP_BYTES_MAX: Readonly<Record<string, number>> = {
  'api-encoder.js': 12_500,
  'progress-bar.js': 1000,
};

const PACKAGE = 'bge-m3-encoder-client';

/** The compiler and Node.js start slowly on a machine that is busy with other tests. */
const PROCESS_MS_MAX = 60_000;

/** A project that has installed the built package, and nothing else. */
let project = '';
let installed = '';
let files: readonly BuiltFile[] = [];

beforeAll(async () => {
  project = await mkdtemp(join(tmpdir(), 'encoder-client-'));
  installed = join(project, 'node_modules', PACKAGE);
  files = await buildClient(installed);
  await Bun.write(join(project, 'package.json'), '{"type":"module"}');
}, PROCESS_MS_MAX);

afterAll(() => rm(project, { recursive: true, force: true }));

async function run(command: readonly string[]) {
  const child = Bun.spawn([...command], { cwd: project, stdout: 'pipe', stderr: 'pipe' });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { status: await child.exited, stdout, stderr };
}

describe('the built client', () => {
  test('is as small as the README says', () => {
    expect(files.map(({ name }) => name).sort()).toEqual(Object.keys(GZIP_BYTES_MAX).sort());
    for (const { name, gzipByteCount } of files) {
      expect(gzipByteCount).toBeLessThanOrEqual(GZIP_BYTES_MAX[name]);
    }
  });

  test('imports nothing, and tells nothing of the machine that built it', async () => {
    for (const { name } of files) {
      const code = await Bun.file(join(installed, name)).text();
      const transpiler = new Bun.Transpiler({ loader: 'js' });
      expect(transpiler.scan(code).imports).toEqual([]);
      expect(code.includes(resolve(import.meta.dir, '../..'))).toBe(false);
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

  test(
    'has types that stand without ours',
    async () => {
      await Bun.write(join(project, 'consumer.ts'), CONSUMER);
      const compiler = resolve(import.meta.dir, '../../node_modules/.bin/tsc');
      const flags = [
        '--noEmit',
        '--strict',
        '--target',
        'es2022',
        '--lib',
        'ESNext,DOM',
        '--types',
        '',
      ];
      const nodeNext = ['--module', 'nodenext', '--moduleResolution', 'nodenext'];
      const { status, stdout } = await run([compiler, ...flags, ...nodeNext, 'consumer.ts']);
      expect({ status, stdout }).toEqual({ status: 0, stdout: '' });
    },
    PROCESS_MS_MAX,
  );

  test("has a place in this package's exports", async () => {
    const targets = [
      packageJson.exports['./client'],
      packageJson.exports['./client/progress-bar'],
    ].flatMap((entry) => Object.values(entry));
    for (const target of targets) {
      const built = target.replace('./dist/client/', `${installed}/`);
      const path = built === target ? resolve(import.meta.dir, '../..', target) : built;
      expect([target, await Bun.file(path).exists()]).toEqual([target, true]);
    }
  });

  const node = Bun.which('node');
  test.skipIf(node === null)(
    'runs under Node.js (needs node)',
    async () => {
      await using scripted = startScriptedClient([answerUnavailable, answerRows]);
      await Bun.write(join(project, 'script.js'), SCRIPT);
      const { server } = scripted;
      const { status, stdout, stderr } = await run([node ?? 'node', 'script.js', server.url]);
      // Among what must not be there: a warning of too many listeners.
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      const texts = Array.from({ length: 200 }, (_, index) => `статья ${index}`);
      expect(JSON.parse(stdout)).toEqual({
        first: [...scriptedRow('договор')],
        rows: texts.map((text) => [...scriptedRow(text)]),
        isOneMatrix: true,
        streamedCount: 200,
        aborted: 'the tab was closed',
        closed: ['APIEncoderError', 'CLIENT_CLOSED', true],
      });
    },
    PROCESS_MS_MAX,
  );
});

const CONSUMER = `
import { APIEncoder, APIEncoderError, type EncodedText } from '${PACKAGE}';
import { createProgressBar } from '${PACKAGE}/progress-bar';
const encoder = new APIEncoder('http://localhost:8080', { concurrency: 4 });
export const row: Float32Array = await encoder.encode('a', createProgressBar());
export const rows: Float32Array[] = await encoder.encode(['a']);
export const text: EncodedText = await encoder.encodeHeads('a');
// @ts-expect-error A row is no string.
export const wrong: string = await encoder.encode('a');
for await (const streamed of encoder.encodeStream(['a'])) streamed.fill(0);
try {
  await encoder.close();
} catch (error) {
  if (error instanceof APIEncoderError && error.code === 'CLIENT_TIMEOUT') error.message.at(0);
}
`;

const SCRIPT = `
import { APIEncoder, APIEncoderError } from '${PACKAGE}';
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
  .catch((error) => [error.name, error.code, error instanceof APIEncoderError]);
const isOneMatrix = rows.every((row) => row.buffer === rows[0].buffer);
const seen = { first, rows: rows.map((row) => [...row]), isOneMatrix, streamedCount, aborted, closed };
console.log(JSON.stringify(seen));
`;
