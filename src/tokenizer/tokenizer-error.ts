/**
 * A `tokenizer.json` that is sound but asks for something that the compiled tokenizer does not do.
 * Names what.
 */
export class TokenizerUnsupportedError extends Error {
  override readonly name = 'TokenizerUnsupportedError';
}

/**
 * A `tokenizer.json` that is broken: not JSON, a field of the wrong type, a charsmap that
 * contradicts itself.
 */
export class TokenizerInvalidError extends Error {
  override readonly name = 'TokenizerInvalidError';
}

/**
 * A compiled tokenizer file that cannot be used: foreign, of another version, truncated or damaged.
 * Rebuild it.
 */
export class CompiledTokenizerError extends Error {
  override readonly name = 'CompiledTokenizerError';
}
