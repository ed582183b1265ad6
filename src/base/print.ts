/**
 * Writes what a command was asked for to standard output. Where it cannot be
 * written, on a full disk for instance, the process ends: `process.stdout` and `console.log` would
 * pass over it in silence, and the command would end well.
 *
 * @param failedStatus the exit status then.
 */
export async function print(text: string, failedStatus = 1): Promise<void> {
  try {
    await Bun.write(Bun.stdout, text);
  } catch (error) {
    const { message } = error as Error;
    process.stderr.write(`standard output cannot be written: ${message}\n`);
    process.exit(failedStatus);
  }
}
