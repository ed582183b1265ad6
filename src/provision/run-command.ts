import { ProvisionError } from './provision-error.ts';

/** How a command ended. */
export interface CommandResult {
  readonly exitCode: number;
  /** Standard output and standard error, as they came. */
  readonly output: string;
  readonly out: string;
  readonly errors: string;
}

/** What a command is started with, where it is not the process's own. */
export interface CommandOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** The folder that it runs in. */
  readonly cwd?: string;
  /** The command is ended after this long. */
  readonly timeoutMs?: number;
}

/** Enough of a build's log to find its first error. */
const OUTPUT_CHARACTERS_MAX = 4_000_000;

/** A command that runs. */
export interface StartedCommand {
  kill(signal: NodeJS.Signals): void;
  /** Resolves when it and its output have ended. */
  readonly ended: Promise<CommandResult>;
}

/**
 * Runs a command to its end and gathers its output. It gets no input and is not interpreted by a
 * shell.
 *
 * @throws ProvisionError when the program is not there.
 */
export async function runCommand(
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  return await startCommand(argv, options).ended;
}

/**
 * The same, for whoever may have to end it.
 *
 * @throws ProvisionError when the program is not there.
 */
export function startCommand(
  argv: readonly string[],
  { env, cwd, timeoutMs }: CommandOptions = {},
): StartedCommand {
  let child: Bun.Subprocess<'ignore', 'pipe', 'pipe'>;
  try {
    child = Bun.spawn([...argv], {
      ...(env && { env }),
      ...(cwd && { cwd }),
      ...(timeoutMs && { timeout: timeoutMs }),
      ...{ stdin: 'ignore', stdout: 'pipe', stderr: 'pipe' },
    });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ProvisionError(`${argv[0]} cannot be run: ${reason}`);
  }
  return { kill: (signal) => child.kill(signal), ended: gatherOutput(child) };
}

async function gatherOutput(
  child: Bun.Subprocess<'ignore', 'pipe', 'pipe'>,
): Promise<CommandResult> {
  const said = { output: '', out: '', errors: '' };
  const gather = async (stream: ReadableStream<Uint8Array>, name: 'out' | 'errors') => {
    const decoder = new TextDecoder();
    for await (const piece of stream) {
      if (said.output.length >= OUTPUT_CHARACTERS_MAX) continue;
      const text = decoder.decode(piece, { stream: true });
      said[name] += text;
      said.output += text;
    }
  };
  await Promise.all([gather(child.stdout, 'out'), gather(child.stderr, 'errors')]);
  return { exitCode: await child.exited, ...said };
}

/**
 * As `runCommand`, but nothing else runs meanwhile: for a set-up that has nothing else to do.
 *
 * @throws Error when the program is not there.
 */
export function runCommandSync(
  argv: readonly string[],
  { env }: Pick<CommandOptions, 'env'> = {},
): Omit<CommandResult, 'output'> {
  const result = Bun.spawnSync([...argv], {
    ...(env && { env }),
    ...{ stdout: 'pipe', stderr: 'pipe' },
  });
  return {
    exitCode: result.exitCode,
    out: result.stdout.toString(),
    errors: result.stderr.toString(),
  };
}

/**
 * Runs a command whose output is for the person at the terminal.
 *
 * @param options.stdout where its standard output goes. By default to standard error: standard
 *   output is for what a program is asked for, and a progress bar is not that.
 * @returns its exit status.
 * @throws Error when the program is not there.
 */
export async function runVisibly(
  argv: readonly string[],
  { stdout = 2 }: { readonly stdout?: 1 | 2 } = {},
): Promise<number> {
  const child = Bun.spawn([...argv], { stdio: ['ignore', stdout, 2] });
  return child.exited;
}
