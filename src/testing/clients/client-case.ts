/** A client that people already have, and how the tests drive it. */
export interface ClientCase {
  /** As the README's table of clients names it. */
  readonly name: string;
  /**
   * Encodes by the client's usual call.
   *
   * @param url of the server, without a slash at the end.
   * @returns the numbers of each text's row, as the client hands them to its user.
   */
  vectors(url: string, texts: readonly string[]): Promise<readonly (readonly number[])[]>;
  /** Encodes texts that the server refuses, and returns all that the client then tells. */
  complaint(url: string, texts: readonly string[]): Promise<string>;
  /** Whether the client itself tries again when the server is busy. */
  readonly isRetrying: boolean;
}
