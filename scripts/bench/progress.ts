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
