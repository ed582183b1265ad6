/** Runs a program to its end and keeps what it said. A set-up has nothing else to do meanwhile. */
export function runToEnd(command: readonly string[]): {
  exitCode: number;
  out: string;
  errors: string;
} {
  const result = Bun.spawnSync([...command], { stdout: 'pipe', stderr: 'pipe' });
  return {
    exitCode: result.exitCode,
    out: result.stdout.toString(),
    errors: result.stderr.toString(),
  };
}
