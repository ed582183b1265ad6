import { ExportError } from './export-error.ts';

/** How a command ended. */
export interface CommandResult {
  readonly exitCode: number;
  /** Standard output and standard error, as they came. */
  readonly output: string;
}

/** Enough of a build's log to find its first error. */
const OUTPUT_CHARACTERS_MAX = 4_000_000;

/**
 * Runs a command to its end, its output gathered. It gets no input and is not interpreted by a
 * shell.
 *
 * @throws ExportError when the program is not there.
 */
export async function runCommand(argv: readonly string[]): Promise<CommandResult> {
  let child: Bun.Subprocess<'ignore', 'pipe', 'pipe'>;
  try {
    child = Bun.spawn([...argv], { stdin: 'ignore', stdout: 'pipe', stderr: 'pipe' });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ExportError(`${argv[0]} cannot be run: ${reason}`);
  }
  let output = '';
  const gather = async (stream: ReadableStream<Uint8Array>) => {
    const decoder = new TextDecoder();
    for await (const piece of stream) {
      if (output.length < OUTPUT_CHARACTERS_MAX) output += decoder.decode(piece, { stream: true });
    }
  };
  await Promise.all([gather(child.stdout), gather(child.stderr)]);
  return { exitCode: await child.exited, output };
}

/**
 * Runs a command whose output is for the person at the terminal.
 *
 * @returns its exit status.
 */
export async function runVisibly(argv: readonly string[]): Promise<number> {
  // Standard output is for what a program is asked for; a progress bar is not that.
  const child = Bun.spawn([...argv], { stdio: ['ignore', 2, 2] });
  return child.exited;
}
