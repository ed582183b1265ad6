import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SETTINGS } from '../../config/settings.ts';
import { clientsPython } from '../clients/clients-venv.ts';
import { startPostgres } from '../corpus/start-postgres.ts';
import { findRuntime } from '../programs/client-runtimes.ts';
import { openBrowser } from '../programs/open-browser.ts';
import { freePorts } from '../triton/free-ports.ts';
import { until } from '../until.ts';
import { type Block, commandsOf, isPrinted, printing, readBlocks } from './blocks.ts';
import { nginxBefore } from './nginx.ts';
import { runInCluster, runInContainer, runOverQueue } from './outside-programs.ts';
import { createReadmePlace, type ReadmePlace } from './readme-place.ts';

/**
 * Every command, snippet and printed reply of the pages for users is run as it stands, in what the
 * README's two commands leave, and compared. A block that nothing runs fails the suite.
 *
 * Faults that were planted in the pages by hand, and that this suite caught: a field that was
 * renamed, a reply of an earlier version, an option that no longer exists, a route with a typing
 * error, a block without a runner, a port that the image does not listen on, a secret without a key
 * that the chart reads, a release by another name, a misspelt flag of a worker.
 */

setDefaultTimeout(180_000);

const ROOT = join(import.meta.dir, '../../..');
const PAGES = ['README.md', 'src/client/README.md'];
const BLOCKS = (await Promise.all(PAGES.map(readBlocks))).flat();
/** The README's first command. */
const [STARTING = ''] = BLOCKS[0].text.split('\n');

let place: ReadmePlace;
/** Serves the built client and the page of the last example. */
let pages: Bun.Server<undefined>;
let page = '';

beforeAll(async () => {
  const dist = join(ROOT, 'dist/client');
  pages = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    fetch(request) {
      const { pathname } = new URL(request.url);
      if (pathname.endsWith('.js')) return new Response(Bun.file(join(dist, pathname)));
      return new Response(page, { headers: { 'content-type': 'text/html; charset=utf-8' } });
    },
  });
  const environment = { CORS_ORIGINS: pages.url.origin };
  place = await createReadmePlace({ command: STARTING, environment });
  await place.shell('./run.sh client', { folder: place.project });
});

afterAll(async () => {
  await place?.close();
  await pages?.stop(true);
});

/** Runs a block; rejects when it fails or prints something else. */
type Runner = (block: Block) => Promise<void>;

/** Runs each command in the project, and compares what it prints. */
const inProject: Runner = async (block) => {
  for (const { command, printed } of commandsOf(block)) {
    const output = await place.shell(place.here(command), { folder: place.project });
    if (printed === undefined) expect(output).not.toContain('"error"');
    else expect([output, isPrinted(printed, output)]).toEqual([output, true]);
  }
};

const inApp: Runner = async ({ text }) => {
  await place.shell(text, { folder: place.app });
};

let scriptCount = 0;

/** Runs a script of the reader's own project, and compares what it prints. */
async function runScript(
  block: Block,
  runtime: string,
  environment: Readonly<Record<string, string>> = {},
): Promise<void> {
  const [closed] = freePorts(1);
  const { script, printed } = printing(block.text);
  const file = join(place.app, `script-${scriptCount++}.ts`);
  await Bun.write(file, place.here(script).replace('localhost:1234', `127.0.0.1:${closed}`));
  const command = `'${runtime}' '${file}'`;
  const output = await place.shell(command, { folder: place.app, environment });
  const lines = output.split('\n').filter((line) => line !== '');
  expect(lines).toEqual([...printed]);
}

const inNode: Runner = (block) => runScript(block, findRuntime('node-22'));

const inNodeWithTexts: Runner = async (block) => {
  const texts = Array.from({ length: 1000 }, (_, index) => `статья ${index}\n`);
  await Bun.write(join(place.app, 'texts.txt'), texts.join(''));
  const withPrinted = block.text.replace("'rows');", "'rows'); // 1000 rows");
  await runScript({ ...block, text: withPrinted }, findRuntime('node-22'));
};

const inPython: Runner = async ({ text }) => {
  const file = join(place.app, 'snippet.py');
  await Bun.write(file, `${place.here(text)}\nprint(rows.shape)\n`);
  const output = await place.shell(`'${clientsPython()}' '${file}'`, { folder: place.app });
  expect(output).toBe('(1, 384)\n');
};

/** A certificate, a server with it and a key, and a call that brings both. */
const withKeyAndTls: Runner = async (block) => {
  const [certificate, start, call] = commandsOf(block).map(({ command }) => command);
  await place.shell(certificate, { folder: place.project });
  const server = await place.serve(start);
  try {
    const { port } = new URL(server.url);
    const here = (command: string): string =>
      command.replace('localhost:8080', `localhost:${port}`);
    const output = await place.shell(here(call), { folder: place.project });
    expect(JSON.parse(output)).toMatchObject({ vector_dim: 384 });
    const keyless = await place.shell(here(call).replace(/ -H .*$/, ''), { folder: place.project });
    expect(keyless).toContain('EMB_KEY_INVALID');
  } finally {
    await server.stop();
  }
};

/** The error as it is printed is that of the request that it speaks of. */
const asError: Runner = async ({ text }) => {
  const reply = await fetch(`${place.url}/encode`, {
    method: 'POST',
    body: JSON.stringify({ query: new Array(5000).fill('a') }),
  });
  expect(isPrinted(text, JSON.stringify(await reply.json(), null, 2))).toBe(true);
};

const inBrowser: Runner = async ({ text }) => {
  page = `<!doctype html><title>?</title>${place.here(text)}`;
  const browser = await openBrowser();
  try {
    const opened = await browser.newPage();
    await opened.goto(pages.url.href);
    await until('the page has its vector', async () => (await opened.title()) !== '?');
    expect(await opened.title()).toBe('384 dimensions');
  } finally {
    await browser.close();
  }
};

/** What the unit starts is asked for its settings, and its times are compared with them. */
const asUnit: Runner = async ({ text }) => {
  const value = (name: string): string => new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1] ?? '';
  const [, flags = ''] = /run\.sh serve (.*)$/.exec(value('ExecStart')) ?? [];
  const command = `env ${value('Environment')} ./run.sh config ${flags}`;
  const shown = await place.shell(command, { folder: place.project });
  expect(shown).toMatch(/^BACKEND +embedded +--backend$/m);
  expect(shown).toMatch(/^UNIX_SOCKET +\/run\/encoder\/encoder\.sock +environment$/m);
  expect(shown).toMatch(/^UNIX_SOCKET_MODE +660 +environment$/m);
  const endMs = SETTINGS.shutdownDelayMs.default + SETTINGS.drainTimeoutMs.default;
  expect(Number(value('TimeoutStopSec')) * 1000).toBeGreaterThan(endMs);
};

const asNginx: Runner = async ({ text }) => {
  expect(Number(/proxy_read_timeout (\d+)s/.exec(text)?.[1]) * 1000).toBeGreaterThan(
    SETTINGS.requestTimeoutMs.default,
  );
  await using proxy = await nginxBefore(text);
  const reply = await fetch(`${proxy.url}/encode`, { method: 'POST', body: '{"query":"тест"}' });
  expect(await reply.json()).toMatchObject({ dim: 384 });
  const large = JSON.stringify({ query: 'x'.repeat(SETTINGS.bodyBytesMax.default - 100) });
  const largeReply = await fetch(`${proxy.url}/encode`, { method: 'POST', body: large });
  // By the server and not by nginx: it came through whole.
  expect(largeReply.headers.get('content-type')).toContain('json');
};

/** The image's own command, by a fake `docker`: no test has a real one. */
const inDocker: Runner = async ({ text }) => {
  expect(await runInContainer(place, text)).toEqual([401, 200]);
};

/** Run by the suite of its own chapter, which reads the block from this page. */
const runBy = (file: string): Runner => {
  return async () => {
    const suite = await Bun.file(join(ROOT, file)).text();
    expect([file, suite.includes('README')]).toEqual([file, true]);
  };
};

/** The real programs, up to the server: `scripts/deploy/real-api-server.sh` has one. */
const inCluster: Runner = async ({ text }) => {
  const values = BLOCKS.find(({ language }) => language === 'yaml')?.text ?? '';
  const { objects, manifests } = await runInCluster(place, text, values);
  const secret = objects.find(({ kind }) => kind === 'Secret');
  expect(secret?.metadata.name).toBe('encoder-keys');
  const asked = /"\/etc\/encoder\/keys\/(\w+)"|name: "encoder-keys", key: "(\w+)"/g;
  const keys = [...manifests.matchAll(asked)];
  const wanted = new Set(keys.map(([, first, second]) => first ?? second));
  expect(Object.keys(secret?.data ?? {}).sort()).toEqual([...wanted].sort());
  expect(manifests).toContain('LOG_LEVEL');
};

const overQueue: Runner = async ({ text }) => {
  expect(await runOverQueue(place, text)).toContain('1/1 parts, 20 texts to s3://archive/vectors');
};

const inBunWithPostgres: Runner = async (block) => {
  const postgres = await startPostgres();
  try {
    const environment = { DATABASE_URL: postgres.url };
    await runScript(block, process.execPath, environment);
  } finally {
    await postgres.stop();
  }
};

/**
 * The first command started the server of every other block. The second is run for one file: this
 * suite is a part of what it runs.
 */
const isTheBeginning: Runner = async ({ text }) => {
  const [start, check = ''] = text.trimEnd().split('\n');
  expect(start).toBe(STARTING);
  const output = await place.shell(check.replace('#', 'src/base/likely-name.test.ts #'), {
    folder: ROOT,
  });
  expect(output).toMatch(/\nAll steps passed\.\n\d+ passed, 0 failed\n$/);
};

/**
 * Where `run.sh` installed a Bun the PATH has no other: only what the block says leads to it. On a
 * machine that had the right one, that one is it.
 */
const inRoot: Runner = async ({ text }) => {
  const isInstalled = existsSync(join(ROOT, '.tools/bun/bin/bun'));
  const folders = (process.env.PATH ?? '').split(':');
  const bare = folders.filter((folder) => !existsSync(join(folder, 'bun'))).join(':');
  const environment: Record<string, string> = isInstalled ? { PATH: bare } : {};
  await place.shell(text, { folder: ROOT, environment });
};

const CORPUS_EXAMPLES = 'src/testing/corpus/corpus-examples.test.ts';

/** Which runner a block has: by its page, and by words that it alone has there. */
const RUNNERS: readonly [page: string, words: string, run: Runner][] = [
  ['README.md', './run.sh test     #', isTheBeginning],
  ['README.md', 'curl localhost:8080/get_vector_dim', inProject],
  ['README.md', 'x-priority: background', inProject],
  ['README.md', '$ curl -s localhost:8080/encode', inProject],
  ['README.md', 'msgpack.unpackb', inPython],
  ['README.md', '"EMB_TEXTS_TOO_MANY"', asError],
  ['README.md', '--cacert', withKeyAndTls],
  ['README.md', 'npm install', inApp],
  ['README.md', 'await encoder.health()', inNode],
  ['README.md', 'laws.jsonl --plan', runBy(CORPUS_EXAMPLES)],
  ['README.md', 'read_parquet("vectors', runBy(CORPUS_EXAMPLES)],
  ['README.md', '--chunk-tokens 256', runBy(CORPUS_EXAMPLES)],
  ['README.md', 'read_parquet("chunks', runBy(CORPUS_EXAMPLES)],
  ['README.md', 'embedCorpus(', runBy(CORPUS_EXAMPLES)],
  ['README.md', '--queue nats://', overQueue],
  ['README.md', 'networkPolicy:', runBy('scripts/deploy/chart.test.ts')],
  ['README.md', 'kubectl create', inCluster],
  ['README.md', 'create extension', inBunWithPostgres],
  ['README.md', 'docker run', inDocker],
  ['README.md', 'ExecStart', asUnit],
  ['README.md', 'proxy_pass', asNginx],
  ['README.md', '$ PORT=9000 ./run.sh config', inProject],
  ['README.md', 'bun run check', inRoot],
  ['src/client/README.md', 'npm install', inApp],
  ['src/client/README.md', 'encoder.getVectorDim()', inNode],
  ['src/client/README.md', 'file.readLines()', inNodeWithTexts],
  ['src/client/README.md', 'search.abort', inNode],
  ['src/client/README.md', 'CLIENT_CONNECTION_REFUSED', inNode],
  ['src/client/README.md', '<script type="module">', inBrowser],
];

const runnersOf = (block: Block): readonly Runner[] =>
  RUNNERS.flatMap(([name, words, run]) =>
    name === block.page && block.text.includes(words) ? [run] : [],
  );

test('each block has one runner, and each runner one block', () => {
  expect(BLOCKS.length).toBeGreaterThan(15);
  const wrong = BLOCKS.filter((block) => runnersOf(block).length !== 1);
  expect(wrong.map(({ page: name, line }) => `${name}:${line}`)).toEqual([]);
  expect(RUNNERS.length).toBe(BLOCKS.length);
});

for (const block of BLOCKS) {
  const [first] = block.text.split('\n');
  test(`${block.page}:${block.line} ${block.language}: ${first}`, async () => {
    for (const run of runnersOf(block)) await run(block);
  });
}
