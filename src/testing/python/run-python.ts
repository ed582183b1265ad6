import { tritonVenv } from '../triton/triton-venv.ts';

/** Long enough for an import of numpy on a machine that does ten things at once. */
const RUN_MS_MAX = 30_000;

/**
 * Runs a Python script in the venv of the tests, to its end.
 *
 * @param options.script absolute path.
 * @param options.stdin what it reads from standard input; borrowed. None by default.
 * @returns its standard output.
 * @throws Error with its standard error when it ends with another code than 0, or not within half a
 *   minute; and when the venv is not set up.
 */
export async function runPython(options: {
  script: string;
  args?: readonly string[];
  stdin?: Uint8Array<ArrayBuffer>;
}): Promise<string> {
  const { script, args = [], stdin } = options;
  const venv = tritonVenv();
  const child = Bun.spawn([venv.python, script, ...args], {
    stdin: stdin ?? 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    env: { ...venv.environment },
    timeout: RUN_MS_MAX,
    killSignal: 'SIGKILL',
  });
  const [out, errors, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (code !== 0) {
    throw new Error(`${script} ended with ${child.signalCode ?? `code ${code}`}:\n${errors}`);
  }
  return out;
}
