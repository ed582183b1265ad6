import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import { type FakeTriton, startFakeTriton } from '../../src/testing/fake-triton.ts';
import { findProgram } from '../../src/testing/programs/find-program.ts';
import {
  type RunningPrometheus,
  startPrometheus,
} from '../../src/testing/programs/start-prometheus.ts';
import { type RunningServer, startServer } from '../../src/testing/start-server.ts';
import { until } from '../../src/testing/until.ts';

/**
 * The dashboard and the alerts against a real Prometheus, which scrapes a server under light load.
 *
 * Faults that were planted by hand, and that this suite caught: a metric of the dashboard spelt
 * wrong, a bracket of a query missing, a metric renamed in the server, an alert's limit raised.
 */

setDefaultTimeout(120_000);

const ALERTS = join(import.meta.dir, 'alerts.yml');

interface Dashboard {
  readonly panels: readonly {
    readonly title: string;
    readonly targets?: readonly { readonly expr: string }[];
  }[];
}

const dashboard: Dashboard = await Bun.file(join(import.meta.dir, 'dashboard.json')).json();

/** Every query of the dashboard, as Grafana would send it. */
const QUERIES = dashboard.panels.flatMap(({ title, targets = [] }) =>
  targets.map(({ expr }) => {
    const filled = expr.replaceAll('$instance', '.*').replaceAll('$__rate_interval', '30s');
    return [title, filled] as const;
  }),
);

function promtool(...words: string[]): { exitCode: number; said: string } {
  const { path } = findProgram('promtool');
  const run = Bun.spawnSync([path, ...words], { cwd: import.meta.dir, stdout: 'pipe' });
  return { exitCode: run.exitCode, said: `${run.stdout}${run.stderr}` };
}

describe('promtool', () => {
  test.each([
    'check config prometheus.yml',
    'check rules alerts.yml',
    'test rules alerts.test.yml',
  ])('%s', (words) => {
    const { exitCode, said } = promtool(...words.split(' '));
    expect(said).toContain('SUCCESS');
    expect(exitCode).toBe(0);
  });

  test('each alert has a test that it fires, and one that it stays quiet', async () => {
    const names = [...(await Bun.file(ALERTS).text()).matchAll(/- alert: (\w+)/g)];
    const tests = await Bun.file(join(import.meta.dir, 'alerts.test.yml')).text();
    expect(names.length).toBeGreaterThan(5);
    for (const [, name] of names) {
      expect(tests).toContain(`${name} fires`);
      expect(tests).toContain(`${name} stays quiet`);
    }
  });
});

describe('a server that is scraped', () => {
  let fake: FakeTriton;
  let server: RunningServer;
  let prometheus: RunningPrometheus;
  let isLoadOver = false;
  let load: Promise<void>;

  beforeAll(async () => {
    const shape = { datatype: 'INT64', dimension: 1024, batchTextsMax: 32 } as const;
    fake = await startFakeTriton({ model: 'bge_model', ...shape });
    server = await startServer({ TRITON_URL: fake.url, TOKENIZER_WORKERS: '1' });
    await until('it is ready', async () => (await fetch(`${server.url}/ready`)).ok);
    load = lightLoad(server.url, () => isLoadOver);
    const target = new URL(server.url).host;
    prometheus = await startPrometheus({ target, ruleFile: ALERTS });
  });

  afterAll(async () => {
    isLoadOver = true;
    await load;
    await prometheus?.stop();
    await server?.close();
    await fake?.stop();
  });

  test('promtool finds no fault with what it tells', async () => {
    const { path } = findProgram('promtool');
    const scraped = await fetch(`${server.url}/metrics`);
    expect(scraped.headers.get('content-type')).toStartWith('text/plain; version=0.0.4');
    const stdin = new Blob([await scraped.text()]);
    const run = Bun.spawn([path, 'check', 'metrics'], { stdin, stdout: 'pipe', stderr: 'pipe' });
    const said = await new Response(run.stderr).text();
    const ours = said.split('\n').filter((line) => line.startsWith('bge_encoder'));
    expect(ours).toEqual([]);
    // 3 is for its taste in the names of the library's own metrics.
    expect([0, 3]).toContain(await run.exited);
  });

  test.each(QUERIES)('the dashboard finds data: %s, %s', async (_title, query) => {
    await until(`there are samples of ${query}`, async () => {
      const samples = await prometheus.query(query);
      return samples.length > 0 && samples.every(({ value }) => Number.isFinite(value));
    });
  });

  test('each metric of background texts, and of endpoints, is on the dashboard', async () => {
    const told = await (await fetch(`${server.url}/metrics`)).text();
    const names = [...told.matchAll(/^# TYPE (bge_encoder_(?:background|backend_endpoint)_\w+)/gm)];
    expect(names.length).toBeGreaterThan(10);
    const asked = QUERIES.map(([, query]) => query).join('\n');
    expect(names.map(([, name]) => name).filter((name) => !asked.includes(`${name}{`))).toEqual([]);
  });

  test('a query of something that is not there finds nothing, and one that is none is told', async () => {
    expect(await prometheus.query('bge_encoder_no_such_thing')).toEqual([]);
    await expect(prometheus.query('sum(')).rejects.toThrow('parse error');
  });

  test('the alerts are loaded, and none fires on a server that is well', async () => {
    const names = await prometheus.alerts();
    expect(names).toContain('EncoderDown');
    const firing = await prometheus.query('ALERTS{alertstate="firing"}');
    expect(firing).toEqual([]);
  });

  test('what it counts is what was sent', async () => {
    isLoadOver = true;
    await load;
    const inferred = fake.inferences.reduce((sum, { texts }) => sum + texts.length, 0);
    const probes = fake.inferences.filter(({ texts }) => texts[0]?.length === 2).length;
    await until('the last scrape has it all', async () => {
      const [sample] = await prometheus.query('bge_encoder_batch_texts_sum');
      return sample?.value === inferred - probes;
    });
  });
});

/** A few requests of each kind at a time: right ones, wrong ones, long ones. */
async function lightLoad(url: string, isOver: () => boolean): Promise<void> {
  const send = async (path: string, body: object, headers = {}): Promise<void> => {
    const reply = await fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) });
    await reply.arrayBuffer();
  };
  const long = 'договор аренды '.repeat(5000);
  for (let round = 0; !isOver(); round++) {
    await Promise.all([
      send('/encode', { query: ['исковая давность', `договор ${round}`] }),
      // Each stage has data, that of background texts too.
      send('/encode', { query: `статья ${round}` }, { 'x-priority': 'background' }),
      send('/encode', { query: 7 }),
      send('/v1/embeddings', { model: 'bge-m3', input: 'срок давности' }),
      send('/score', { query: 'иск', texts: ['давность', 'борщ'], outputs: ['dense'] }),
      ...(round % 20 === 0 ? [send('/encode', { query: long })] : []),
    ]);
  }
}
