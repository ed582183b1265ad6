import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { sleep, systemClock } from '../../base/clock.ts';
import { seededRandom } from '../seeded-random.ts';
import { until } from '../until.ts';
import { bytesOfFolder, jsonLines } from './corpus-stand.ts';
import { killPid, type RunningCommand, serverOf, startCommand, untilGone } from './kill-run.ts';

/** What came of killing a job again and again. */
export interface KillReport {
  readonly kills: Readonly<Record<KillTarget, number>>;
  /** Jobs that came to their end in between; each was held against the undisturbed run. */
  readonly jobs: number;
  /** Files that differed from the undisturbed run, or were missing: a fault of ours. */
  readonly differing: readonly string[];
  /** Servers that outlived their command. */
  readonly orphans: number;
  /** What is left in the system's folder of temporary files once all have ended. */
  readonly left: readonly string[];
}

/** What a kill ends. */
export type KillTarget = 'command' | 'server' | 'both';

const TARGETS: readonly KillTarget[] = ['command', 'server', 'both'];

/** A kill comes so long after the last one, at most, in ms: some hit the start, some the work. */
const BETWEEN_MS_MAX = 2500;

/** A job that nobody disturbs ends long before this, in ms. */
const END_MS_MAX = 300_000;

/**
 * Runs a job undisturbed, then again under `kill -9` of the command, of its server or of both, at
 * random moments, until so many have happened and the job is done. A job that ends before goes on
 * in a new folder.
 *
 * @param options.words the command line without `--to`.
 */
export async function killAtRandom(options: {
  words: readonly string[];
  folder: string;
  environment: Record<string, string>;
  killCount: number;
  seed: number;
  say?: (line: string) => void;
}): Promise<KillReport> {
  const { folder, killCount, say = () => undefined } = options;
  const random = seededRandom(options.seed);
  const temporary = join(folder, 'temporary');
  await mkdir(temporary);
  const environment = { ...options.environment, TMPDIR: temporary };
  const start = (to: string): RunningCommand =>
    startCommand([...options.words, '--to', join(folder, to)], { environment });
  const calm = start('calm');
  const first = await calm.ended;
  if (first.status !== 0)
    throw new Error(`the undisturbed run ended with ${first.status}: ${first.said}`);
  const expected = await bytesOfFolder(join(folder, 'calm'));
  const kills = { command: 0, server: 0, both: 0 };
  const differing = new Set<string>();
  let jobs = 0;
  let orphans = 0;
  let command = start('killed');
  const finish = async (): Promise<void> => {
    const { status, said } = await command.ended;
    if (status !== 0) throw new Error(`a job ended with ${status}: ${said}`);
    jobs++;
    const found = await bytesOfFolder(join(folder, 'killed'));
    for (const name of new Set([...Object.keys(found), ...Object.keys(expected)])) {
      if (found[name] !== expected[name]) differing.add(name);
    }
    await rm(join(folder, 'killed'), { recursive: true });
  };
  for (let kill = 0; kill < killCount; kill++) {
    const target = random.pick(TARGETS);
    const moment = sleep(systemClock, random.between(10, BETWEEN_MS_MAX)).then(() => 'moment');
    if ((await Promise.race([moment, command.ended])) !== 'moment') {
      await finish();
      command = start('killed');
    }
    const server = await serverOf(command.pid);
    if (target !== 'command' && server !== undefined) killPid(server, 'SIGKILL');
    if (target !== 'server') {
      command.kill('SIGKILL');
      await command.ended;
      if (server !== undefined && (await outlives(server))) orphans++;
      command = start('killed');
    }
    kills[target]++;
    if ((kill + 1) % 20 === 0) say(`${kill + 1} kills, ${jobs} jobs done`);
  }
  const endMs = systemClock.now() + END_MS_MAX;
  await until('the last job ends', async () => {
    const ended = await Promise.race([command.ended, sleep(systemClock, 10).then(() => undefined)]);
    return ended !== undefined || systemClock.now() > endMs;
  });
  await finish();
  return { kills, jobs, differing: [...differing], orphans, left: await leftIn(temporary) };
}

/** Half of the texts in one file of a folder, the others in files of three, which share parts. */
export async function writeMixed(folder: string, texts: readonly string[]): Promise<void> {
  const lines = jsonLines(texts).split('\n').slice(0, -1);
  const half = lines.length >> 1;
  await Bun.write(join(folder, '0.jsonl'), lines.slice(0, half).join('\n'));
  for (let start = half; start < lines.length; start += 3) {
    const some = lines.slice(start, start + 3).join('\n');
    await Bun.write(join(folder, `${100_000 + start}.jsonl`), some);
  }
}

/** What is in a folder when all that cleans up has had time for it. */
export async function leftIn(folder: string): Promise<string[]> {
  await until('nothing is left', async () => (await readdir(folder)).length === 0).catch(
    () => undefined,
  );
  return readdir(folder);
}

async function outlives(pid: number): Promise<boolean> {
  try {
    await untilGone(pid);
    return false;
  } catch {
    return true;
  }
}
