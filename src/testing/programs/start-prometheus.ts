import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from '../until.ts';
import { findProgram } from './find-program.ts';

/** One sample that a query found. */
export interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A real Prometheus that scrapes one server. Whoever started it stops it. */
export interface RunningPrometheus {
  readonly url: string;
  /** What the query finds now. @throws Error with Prometheus' own words when it is no query. */
  query(expression: string): Promise<readonly Sample[]>;
  /** Names of the alerts that it has loaded. */
  alerts(): Promise<readonly string[]>;
  stop(): Promise<void>;
}

/**
 * Starts Prometheus on a free port and waits until it has scraped its target.
 *
 * @param options.target `host:port`, scraped five times a second.
 * @param options.ruleFile path of a file of alerts.
 */
export async function startPrometheus(options: {
  target: string;
  ruleFile: string;
}): Promise<RunningPrometheus> {
  const folder = mkdtempSync(join(tmpdir(), 'prometheus-'));
  const config = join(folder, 'prometheus.yml');
  const { target, ruleFile } = options;
  const settings = {
    global: { scrape_interval: '200ms', scrape_timeout: '200ms', evaluation_interval: '1s' },
    rule_files: [ruleFile],
    scrape_configs: [{ job_name: 'bge-encoder', static_configs: [{ targets: [target] }] }],
  };
  // JSON is YAML.
  writeFileSync(config, JSON.stringify(settings));
  const program = findProgram('prometheus');
  const child = Bun.spawn(
    [
      program.path,
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(folder, 'data')}`,
      '--web.listen-address=127.0.0.1:0',
    ],
    { stdin: 'ignore', stdout: 'ignore', stderr: 'pipe', env: { ...process.env } },
  );
  let said = '';
  void readAll(child.stderr, (part) => {
    said += part;
  });
  const address = /address=(127\.0\.0\.1:[1-9]\d*)/;
  await until('Prometheus says where it listens', () => {
    if (child.exitCode !== null) throw new Error(`Prometheus ended: ${said}`);
    return address.test(said);
  });
  const url = `http://${address.exec(said)?.[1]}`;
  const query = (expression: string): Promise<readonly Sample[]> => ask(url, expression);
  await until('the target is up', async () => (await query('up == 1')).length === 1);
  return {
    url,
    query,
    async alerts() {
      const reply = await fetch(`${url}/api/v1/rules`);
      const { data } = (await reply.json()) as RulesReply;
      return data.groups.flatMap(({ rules }) => rules.map(({ name }) => name));
    },
    async stop() {
      child.kill('SIGTERM');
      await child.exited;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

interface RulesReply {
  readonly data: { readonly groups: readonly { readonly rules: readonly { name: string }[] }[] };
}

interface QueryReply {
  readonly status: string;
  readonly error?: string;
  readonly data?: {
    readonly result: readonly {
      readonly metric: Readonly<Record<string, string>>;
      readonly value: readonly [number, string];
    }[];
  };
}

async function ask(url: string, expression: string): Promise<readonly Sample[]> {
  const body = new URLSearchParams({ query: expression });
  const reply = await fetch(`${url}/api/v1/query`, { method: 'POST', body }).catch(() => undefined);
  // It listens before it is ready to answer.
  if (reply === undefined || reply.status === 503) return [];
  const { status, error, data } = (await reply.json()) as QueryReply;
  if (status !== 'success') throw new Error(`${expression}: ${error}`);
  return (data?.result ?? []).map(({ metric, value }) => ({ metric, value: Number(value[1]) }));
}

async function readAll(
  stream: ReadableStream<Uint8Array>,
  onText: (text: string) => void,
): Promise<void> {
  const decoder = new TextDecoder();
  for await (const chunk of stream) onText(decoder.decode(chunk, { stream: true }));
}
