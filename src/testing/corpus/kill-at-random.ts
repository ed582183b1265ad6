import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { sleep, systemClock } from '../../base/clock.ts';
import { type SeededRandom, seededRandom } from '../seeded-random.ts';
import { until } from '../until.ts';
import { bytesOfFolder } from './corpus-stand.ts';
import {
  type CommandEnd,
  killPid,
  type RunningCommand,
  serverOf,
  startCommand,
  untilGone,
} from './kill-run.ts';
import { befall, isNamedAlone, SOURCE_FAULTS, type SourceFault } from './small-files.ts';

/** What came of killing a job again and again. */
export interface KillReport {
  readonly kills: Readonly<Record<KillTarget, number>>;
  /** Files of the source that changed, vanished or came to it, and how often that was refused. */
  readonly sourceFaults: Readonly<Record<SourceFault, { count: number; refused: number }>>;
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

/** Of the kills of a command, one in so many is followed by a fault of the source. */
const SOURCE_FAULT_STEP = 2;

/**
 * Runs a job undisturbed, then again under `kill -9` of the command, of its server or of both, at
 * random moments, until so many have happened and the job is done. A job that ends before goes on
 * in a new folder.
 *
 * After some kills a small file of the source changes, vanishes or comes to it, before the command
 * starts again or while it runs. Where the command sees that, it has to refuse it by name; then all
 * is put back, and the job goes on.
 *
 * @param options.source a folder of `writeMixed`.
 * @param options.words the command line without source and `--to`.
 */
export async function killAtRandom(options: KillOptions): Promise<KillReport> {
  const { folder, killCount, say = () => undefined } = options;
  const temporary = join(folder, 'temporary');
  await mkdir(temporary);
  const run = new KillRun(options, temporary);
  await run.calm();
  await run.start();
  for (let kill = 0; kill < killCount; kill++) {
    await run.kill();
    if ((kill + 1) % 5 === 0) say(`${kill + 1} kills, ${run.jobs} jobs done`);
  }
  await run.end();
  return { ...run.report(), left: await leftIn(temporary) };
}

interface KillOptions {
  readonly source: string;
  readonly words: readonly string[];
  readonly folder: string;
  readonly environment: Record<string, string>;
  readonly killCount: number;
  readonly seed: number;
  readonly say?: (line: string) => void;
}

/** The job that is killed, and what has come of it so far. */
class KillRun {
  readonly #options: KillOptions;
  readonly #environment: Record<string, string>;
  readonly #random: SeededRandom;
  readonly #kills = { command: 0, server: 0, both: 0 };
  readonly #sourceFaults = {
    changed: { count: 0, refused: 0 },
    vanished: { count: 0, refused: 0 },
    added: { count: 0, refused: 0 },
  };
  readonly #differing = new Set<string>();
  #expected: Readonly<Record<string, string>> = {};
  #command: RunningCommand | undefined;
  #orphans = 0;
  jobs = 0;

  constructor(options: KillOptions, temporary: string) {
    this.#options = options;
    this.#environment = { ...options.environment, TMPDIR: temporary };
    this.#random = seededRandom(options.seed);
  }

  report(): Omit<KillReport, 'left'> {
    return {
      kills: this.#kills,
      sourceFaults: this.#sourceFaults,
      jobs: this.jobs,
      differing: [...this.#differing],
      orphans: this.#orphans,
    };
  }

  /** The run that nobody disturbs. */
  async calm(): Promise<void> {
    const { status, said } = await this.#begin('calm').ended;
    if (status !== 0) throw new Error(`the undisturbed run ended with ${status}: ${said}`);
    this.#expected = await bytesOfFolder(this.#path('calm'));
  }

  async start(): Promise<void> {
    this.#command = this.#begin('killed');
  }

  /** One kill, at a random moment, and what comes after it. */
  async kill(): Promise<void> {
    const target = this.#random.pick(TARGETS);
    const command = await this.#atRandomMoment();
    const server = await serverOf(command.pid);
    if (target !== 'command' && server !== undefined) killPid(server, 'SIGKILL');
    if (target !== 'server') {
      command.kill('SIGKILL');
      await command.ended;
      if (server !== undefined && (await outlives(server))) this.#orphans++;
      if (this.#random.below(SOURCE_FAULT_STEP) === 0) await this.#disturbSource();
      await this.start();
    }
    this.#kills[target]++;
  }

  /** Waits until the last job is done. */
  async end(): Promise<void> {
    const command = this.#running();
    const endMs = systemClock.now() + END_MS_MAX;
    await until('the last job ends', async () => {
      const pause = sleep(systemClock, 10).then(() => undefined);
      const ended = await Promise.race([command.ended, pause]);
      return ended !== undefined || systemClock.now() > endMs;
    });
    await this.#finish(await command.ended);
  }

  #begin(to: string): RunningCommand {
    const { source, words } = this.#options;
    const line = [source, ...words, '--to', this.#path(to)];
    return startCommand(line, { environment: this.#environment });
  }

  #path(name: string): string {
    return join(this.#options.folder, name);
  }

  #running(): RunningCommand {
    if (this.#command === undefined) throw new Error('no command was started');
    return this.#command;
  }

  /** @returns the command that runs then; a job that ended in between was held against the calm. */
  async #atRandomMoment(): Promise<RunningCommand> {
    const waitMs = this.#random.between(10, BETWEEN_MS_MAX);
    const moment = sleep(systemClock, waitMs).then(() => undefined);
    const ended = await Promise.race([moment, this.#running().ended]);
    if (ended !== undefined) {
      await this.#finish(ended);
      await this.start();
    }
    return this.#running();
  }

  /** Holds a job that is done against the undisturbed one, and clears its place. */
  async #finish({ status, said }: CommandEnd): Promise<void> {
    if (status !== 0) throw new Error(`a job ended with ${status}: ${said}`);
    this.jobs++;
    const found = await bytesOfFolder(this.#path('killed'));
    for (const name of new Set([...Object.keys(found), ...Object.keys(this.#expected)])) {
      if (found[name] !== this.#expected[name]) this.#differing.add(name);
    }
    await rm(this.#path('killed'), { recursive: true });
  }

  /** Between two runs of the command, or while one runs. What is not pinned yet may be anything. */
  async #disturbSource(): Promise<void> {
    const fault = this.#random.pick(SOURCE_FAULTS);
    const names = (await readdir(this.#options.source)).filter(isNamedAlone).sort();
    const file = join(this.#options.source, this.#random.pick(names));
    const runsBefore = this.#random.below(2) === 0;
    if (!(await Bun.file(this.#path('killed/_embed/manifest.json')).exists())) return;
    if (runsBefore) await this.start();
    if (runsBefore) await this.#atRandomMoment();
    // A job that was done in between has left a new one, which is not pinned either.
    if (!(await Bun.file(this.#path('killed/_embed/manifest.json')).exists())) {
      await this.#stop();
      return;
    }
    const { path, mend } = await befall(file, fault);
    if (!runsBefore) await this.start();
    const end = await this.#running().ended;
    await mend();
    this.#sourceFaults[fault].count++;
    // Whoever had read the file before has no more business with it.
    if (runsBefore && end.status === 0) return this.#finish(end);
    const isRefused = end.status === 4 || (runsBefore && end.status === 2);
    if (!isRefused || !end.said.includes(path)) {
      throw new Error(`${path} ${fault}, and the job ended with ${end.status}: ${end.said}`);
    }
    this.#sourceFaults[fault].refused++;
  }

  async #stop(): Promise<void> {
    this.#running().kill('SIGKILL');
    await this.#running().ended;
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
