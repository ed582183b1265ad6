/**
 * What stopped a set-up or an export, in one line for the person who runs it: what failed, what was
 * found, and what to do about it. A fault of our own is an `InvariantError` instead.
 */
export class ProvisionError extends Error {
  override readonly name = 'ProvisionError';
}

/**
 * Asserts what a file, a download or another program should have given us.
 *
 * @throws ProvisionError when `condition` is false.
 */
export function demand(condition: boolean, message: string): asserts condition {
  if (!condition) throw new ProvisionError(message);
}

/** Where a set-up says what it does; one line a call. */
export type Log = (line: string) => void;
