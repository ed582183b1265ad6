/** What only a fault of ours can cause. Its words go to the log, never to a caller. */
export class InvariantError extends Error {
  override readonly name = 'InvariantError';
}

/**
 * Asserts what the code around it relies on.
 *
 * @throws InvariantError when `condition` is false.
 */
export function invariant(condition: boolean, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}
