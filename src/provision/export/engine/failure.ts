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
  [
    // The profile's largest batch needs too much memory, or has a tensor of more numbers than
    // TensorRT can count.
    /out ?of ?memory|insufficient memory|cudaMalloc|allocat\w+ fail|volume exceeds|could not find any implementation/i,
    'A smaller max_batch_size in config.pbtxt (or tokenCountMax) needs less.',
  ],
];

/** What can be done about a failure, as ` A sentence.`; nothing when nobody knows. */
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
 * The line of Triton's log that says why it does not serve: its first error. What follows it only
 * says that a model, then the server, could not be had.
 */
export function tritonFailure(log: string): string {
  const lines = linesOf(log);
  const error =
    lines.find((line) => /^E\d{4} /.test(line)) ??
    lines.find((line) => /^(?:ERROR|error): /.test(line));
  // The time, the process and the line of Triton's source help nobody here.
  return (error ?? lines.at(-1) ?? 'no log').replace(/^E\d{4} [\d:.]+ \d+ (?:\S+:\d+\] )?/, '');
}

function linesOf(output: string): string[] {
  return output.split('\n').filter((line) => line.trim() !== '');
}
