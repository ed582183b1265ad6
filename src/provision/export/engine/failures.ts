import { ProvisionError } from '../../provision-error.ts';

/**
 * A profile's largest batch needs too much memory, has a tensor of more numbers than TensorRT can
 * count, or leaves no kernel that fits.
 */
const OUT_OF_MEMORY =
  /out ?of ?memory|insufficient memory|cudaMalloc|allocat\w+ fail|volume exceeds|could not find any implementation/i;

/** An engine that is too large for this GPU: a smaller one may do. */
export class EngineTooLargeError extends ProvisionError {}

/** The failure of a program that built or loaded an engine, by its output. */
export function engineFailure(words: string, output: string): ProvisionError {
  const message = `${words}${adviceFor(output)}`;
  return OUT_OF_MEMORY.test(output)
    ? new EngineTooLargeError(message)
    : new ProvisionError(message);
}

/** Words of other programs, and what a person can do about them. */
const ADVICE: readonly (readonly [RegExp, string])[] = [
  [
    /could not select device driver|unresolvable CDI devices|unknown or invalid runtime name: nvidia/i,
    'Docker has no NVIDIA container toolkit: install nvidia-container-toolkit and restart Docker.',
  ],
  [
    /permission denied.*docker|docker.*permission denied/i,
    'Docker refuses this user: sudo usermod -aG docker $USER, then log in again.',
  ],
  [
    /compatibility mode is UNAVAILABLE|driver version is insufficient/i,
    'The driver is too old for this image: update it, or set TRITON_IMAGE to an older one.',
  ],
  [OUT_OF_MEMORY, 'Fewer tokens a batch (--batch-tokens) or a smaller tokenCountMax need less.'],
];

/** What to do about a failure, as ` A sentence.`; empty when it is not a known one. */
export function adviceFor(output: string): string {
  const advice = ADVICE.find(([words]) => words.test(output))?.[1];
  return advice === undefined ? '' : ` ${advice}`;
}

/**
 * The line of a `docker` call's output that says why it failed: Docker's own words, which are
 * followed by how to get help, or else the last line.
 */
export function dockerFailure(output: string): string {
  const lines = linesOf(output);
  const words = lines.find((line) =>
    /^docker: |Error response from daemon|^permission /.test(line),
  );
  return words ?? lines.at(-1) ?? 'no output';
}

/**
 * The line that says why `trtexec` failed: its first error, or why Docker did not run it, or why
 * the image thinks that nothing can run on this driver.
 */
export function trtexecFailure(output: string): string {
  const lines = linesOf(output);
  const error =
    lines.find((line) => line.includes('[E]')) ??
    lines.find((line) => /^docker: |Error response from daemon/.test(line)) ??
    lines.find((line) => line.startsWith('ERROR: '));
  return (error ?? lines.at(-1) ?? 'no output').replace(/^\[[^\]]*\] /, '');
}

/**
 * The line of Triton's log that says why it does not serve: its first error. What follows only says
 * that the model, then the server, did not start.
 */
export function tritonFailure(log: string): string {
  const lines = linesOf(log);
  const error =
    lines.find((line) => /^E\d{4} /.test(line)) ??
    lines.find((line) => /^(?:ERROR|error): /.test(line));
  // Without the time, the process and the line of Triton's source.
  return (error ?? lines.at(-1) ?? 'no log').replace(/^E\d{4} [\d:.]+ \d+ (?:\S+:\d+\] )?/, '');
}

function linesOf(output: string): string[] {
  return output.split('\n').filter((line) => line.trim() !== '');
}
