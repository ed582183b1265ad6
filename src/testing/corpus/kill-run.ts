import { join } from 'node:path';
import { until } from '../until.ts';
import { ENTRY } from './corpus-stand.ts';

/** How a run of the command ended. */
export interface CommandEnd {
  /** Undefined where it was killed. */
  readonly status: number | undefined;
  readonly said: string;
}

/** The command, in a process of its own. Whoever started it sees it end. */
export interface RunningCommand {
  readonly pid: number;
  said(): string;
  /** Standard output, where it was asked for. */
  wrote(): string;
  kill(signal: NodeJS.Signals): void;
  readonly ended: Promise<CommandEnd>;
}

/** Starts `embed` as `run.sh` does. */
export function startCommand(
  words: readonly string[],
  options: { environment?: Record<string, string>; shell?: string; stdout?: boolean } = {},
): RunningCommand {
  const command = [process.execPath, ENTRY, 'embed', ...words];
  // A shell that sets limits before it becomes the command.
  const wrapped =
    options.shell === undefined
      ? command
      : ['bash', '-c', `${options.shell}; exec "$@"`, 'sh', ...command];
  const child = Bun.spawn([...wrapped], {
    cwd: join(ENTRY, '../..'),
    env: { PATH: process.env.PATH ?? '', ...options.environment },
    stdio: ['ignore', options.stdout === true ? 'pipe' : 'ignore', 'pipe'],
  });
  let said = '';
  let wrote = '';
  const read = async (): Promise<void> => {
    const decoder = new TextDecoder();
    for await (const chunk of child.stderr) said += decoder.decode(chunk, { stream: true });
    if (child.stdout !== undefined) wrote = await new Response(child.stdout).text();
  };
  const reading = read();
  const ended = child.exited.then(async () => {
    await reading;
    return { status: child.signalCode === null ? (child.exitCode ?? undefined) : undefined, said };
  });
  return {
    pid: child.pid,
    said: () => said,
    wrote: () => wrote,
    kill: (signal) => child.kill(signal),
    ended,
  };
}

/** Runs `embed` to its end. */
export function runCommand(
  words: readonly string[],
  options: Parameters<typeof startCommand>[1] = {},
): Promise<CommandEnd> {
  return startCommand(words, options).ended;
}

/** The server that a command has started for itself; undefined while there is none. */
export function serverOf(pid: number): Promise<number | undefined> {
  return childOf(pid, 'main.ts');
}

/** What ends the server of a command when the command is gone. */
export function guardOf(pid: number): Promise<number | undefined> {
  return childOf(pid, '\0guard\0');
}

async function childOf(pid: number, words: string): Promise<number | undefined> {
  const tasks = await Bun.file(`/proc/${pid}/task/${pid}/children`)
    .text()
    .catch(() => '');
  for (const word of tasks.split(' ').filter((task) => task !== '')) {
    const line = await Bun.file(`/proc/${word}/cmdline`)
      .text()
      .catch(() => '');
    if (line.includes(words)) return Number(word);
  }
  return undefined;
}

/** Waits until no process of this id is left. */
export function untilGone(pid: number): Promise<void> {
  return until(`process ${pid} is gone`, async () => {
    const status = await Bun.file(`/proc/${pid}/stat`)
      .text()
      .catch(() => '');
    return status === '' || status.includes(') Z ');
  });
}

/** Kills a process that may have ended by itself. */
export function killPid(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has.
  }
}
