import { say } from './progress.ts';

/** Runs a bench of its own and turns what it throws into one line and exit status 1. */
export async function runScript(name: string, main: () => Promise<void>): Promise<void> {
  try {
    await main();
  } catch (error) {
    const { message, stack } = error as Error;
    const isOurs = ['WrongReplyError', 'BenchUsageError'].includes((error as Error).name);
    say(`${name}: ${isOurs ? message : (stack ?? message)}`);
    process.exitCode = 1;
  }
}

/** One line that says whether a figure is where it should be. */
export function verdict(found: string, wanted: string, isReached: boolean): string {
  return `${isReached ? 'reached' : 'MISSED '}  ${found} (wanted: ${wanted})`;
}
