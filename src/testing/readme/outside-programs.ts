import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { startNats } from '../corpus/start-nats.ts';
import { startS3 } from '../corpus/start-s3.ts';
import { freePorts } from '../triton/free-ports.ts';
import { until } from '../until.ts';
import type { ReadmePlace } from './readme-place.ts';

/** Blocks of the README that need more than this machine has, and what stands in its place. */

const CHART_PROGRAMS = join(import.meta.dir, '../../../.tools/chart-programs/bin');

/** A folder of programs that come first on the PATH, and one for what they keep. */
interface Fakes extends Disposable {
  readonly state: string;
  readonly environment: Readonly<Record<string, string>>;
}

async function createFakes(programs: Readonly<Record<string, string>>): Promise<Fakes> {
  const folder = mkdtempSync(join(tmpdir(), 'fakes-'));
  const [bin, state] = [join(folder, 'bin'), join(folder, 'state')];
  for (const path of [bin, state]) mkdirSync(path);
  for (const [name, text] of Object.entries(programs)) {
    await Bun.write(join(bin, name), text);
    chmodSync(join(bin, name), 0o755);
  }
  const path = [bin, dirname(process.execPath), process.env.PATH].join(':');
  return {
    state,
    environment: { PATH: path, FAKE_STATE: state, FAKE_BIN: CHART_PROGRAMS },
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/**
 * Builds and runs the image by a fake `docker`.
 *
 * @returns the statuses of a call without the key and of one with it.
 */
export async function runInContainer(place: ReadmePlace, text: string): Promise<number[]> {
  const script = join(import.meta.dir, 'fake-container.ts');
  using fakes = await createFakes({
    docker: `#!/bin/sh\nexec "${process.execPath}" "${script}" "$@"\n`,
  });
  const [port] = freePorts(1);
  const url = `http://127.0.0.1:${port}`;
  const key = /API_KEYS=(\S+)/.exec(text)?.[1] ?? '';
  let ended = false;
  const running = place
    .shell(text.replace(/-p \d+:/, `-p ${port}:`), {
      folder: place.project,
      environment: { ...fakes.environment, SHUTDOWN_DELAY_MS: '0' },
    })
    .finally(() => {
      ended = true;
    });
  running.catch(() => undefined);
  await until('the container serves', async () => {
    if (ended) await running;
    return await fetch(`${url}/ready`).then(
      (reply) => reply.ok,
      () => false,
    );
  });
  const statuses: number[] = [];
  for (const headers of [{}, { 'x-api-key': key }]) {
    const call = { method: 'POST', body: '{"query":"тест"}', headers };
    statuses.push((await fetch(`${url}/encode`, call)).status);
  }
  process.kill(Number(readFileSync(join(fakes.state, 'process'), 'utf8')), 'SIGTERM');
  await running;
  return statuses;
}

/** What the commands of a cluster leave. */
export interface ClusterState {
  /** Each object that kubectl made. */
  readonly objects: readonly { kind: string; metadata: { name: string }; data?: object }[];
  /** What helm made last. */
  readonly manifests: string;
}

/** Runs kubectl and helm up to where they would ask the server, with this `fleet.yaml`. */
export async function runInCluster(
  place: ReadmePlace,
  text: string,
  values: string,
): Promise<ClusterState> {
  const script = await Bun.file(join(import.meta.dir, 'fake-cluster.sh')).text();
  using fakes = await createFakes({ kubectl: script, helm: script });
  const folder = join(place.project, 'fleet');
  mkdirSync(folder);
  await Bun.write(join(folder, 'fleet.yaml'), values);
  cpSync(join(place.project, 'scripts'), join(folder, 'scripts'), { verbatimSymlinks: true });
  await place.shell(text, { folder, environment: fakes.environment });
  const lines = readFileSync(join(fakes.state, 'objects.jsonl'), 'utf8').trim().split('\n');
  const manifests = readFileSync(join(fakes.state, 'last.yaml'), 'utf8');
  return { objects: lines.map((line) => JSON.parse(line)), manifests };
}

/**
 * Runs a job, a worker and the question for its state over a real NATS and a real S3 server.
 *
 * @returns what the last command prints.
 */
export async function runOverQueue(place: ReadmePlace, text: string): Promise<string> {
  const [nats, s3] = await Promise.all([startNats(), startS3('archive')]);
  try {
    const texts = Array.from({ length: 20 }, (_, id) =>
      JSON.stringify({ id, body: `статья ${id}` }),
    );
    const address = `${s3.environment.AWS_ENDPOINT_URL}/archive`;
    await fetch(`${address}/laws/1.jsonl`, { method: 'PUT', body: texts.join('\n') });
    const [job, worker, status] = text.trim().split('\n');
    // It ends when no job is left, or by the signal.
    const ending = 'kill $worker 2>/dev/null || true; wait $worker || [[ $? == 143 ]]';
    const script = `${worker} & worker=$!\n${job}\n${status}\n${ending}`;
    const printed = await place.shell(script.replaceAll('nats://queue:4222', nats.url), {
      folder: place.project,
      environment: s3.environment,
    });
    const written = await (await fetch(`${address}?list-type=2`)).text();
    if (!written.includes('<Key>vectors/part-000000.parquet<')) throw new Error(written);
    return printed;
  } finally {
    await Promise.all([nats.stop(), s3.stop()]);
  }
}
