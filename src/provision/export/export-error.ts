/**
 * What stopped an export, in words for the person who runs it: the file, what was found in it, what
 * was expected. A fault of the export itself is an `InvariantError` instead.
 */
export class ExportError extends Error {
  override readonly name = 'ExportError';
}

/**
 * Asserts what a file, a download or another program should have given us.
 *
 * @throws ExportError when `condition` is false.
 */
export function demand(condition: boolean, message: string): asserts condition {
  if (!condition) throw new ExportError(message);
}
