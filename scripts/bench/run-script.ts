/** Runs a bench of its own and turns what it throws into one line and exit status 1. */
export async function runScript(name: string, main: () => Promise<void>): Promise<void> {
  try {
    await main();
  } catch (error) {
    const { message, stack } = error as Error;
    const isOurs = (error as Error).name === 'WrongReplyError';
    say(`${name}: ${isOurs ? message : (stack ?? message)}`);
    process.exitCode = 1;
  }
}

/** One line that says whether a figure is where it should be. */
export function verdict(found: string, wanted: string, isReached: boolean): string {
  return `${isReached ? 'reached' : 'MISSED '}  ${found} (wanted: ${wanted})`;
}

/** One line a step on standard error, so that standard output stays the report alone. */
export function say(line: string): void {
  process.stderr.write(`bench: ${line}\n`);
}

/** Says at most every other second how far a step is. */
export function progressOf(
  what: string,
): (progress: { elapsedMs: number; replyCount: number }) => void {
  let saidMs = 0;
  return ({ elapsedMs, replyCount }) => {
    if (elapsedMs - saidMs < 2000) return;
    saidMs = elapsedMs;
    say(`  ${what}: ${(elapsedMs / 1000).toFixed(0)} s, ${replyCount} replies`);
  };
}
