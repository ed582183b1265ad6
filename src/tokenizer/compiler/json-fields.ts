import { TokenizerInvalidError, TokenizerUnsupportedError } from '../tokenizer-error.ts';

/**
 * Steps into a `tokenizer.json`, each with the place for its complaint. `null` is how the format
 * leaves a part out, so it is unsupported where the part is needed; another type is invalid.
 */

/** An object of the file, unchecked. */
export type Fields = Record<string, unknown>;

/**
 * @throws TokenizerUnsupportedError for `null`, TokenizerInvalidError for anything else but an
 *   object.
 */
export function fieldsOf(value: unknown, where: string): Fields {
  if (value === null) throw new TokenizerUnsupportedError(`${where}: null`);
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw new TokenizerInvalidError(`${where}: not an object`);
  }
  return value as Fields;
}

/** @throws TokenizerInvalidError */
export function arrayOf(value: unknown, where: string): unknown[] {
  if (!Array.isArray(value)) throw new TokenizerInvalidError(`${where}: not an array`);
  return value;
}

/** @throws TokenizerInvalidError */
export function stringOf(value: unknown, where: string): string {
  if (typeof value !== 'string') throw new TokenizerInvalidError(`${where}: not a string`);
  return value;
}

/** @throws TokenizerInvalidError */
export function booleanOf(value: unknown, where: string): boolean {
  if (typeof value !== 'boolean') throw new TokenizerInvalidError(`${where}: not a boolean`);
  return value;
}

/** A whole number from 0 that fits 31 bits. @throws TokenizerInvalidError */
export function integerOf(value: unknown, where: string): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > 0x7fffffff) {
    throw new TokenizerInvalidError(`${where}: not a whole number`);
  }
  return value;
}

/** @throws TokenizerInvalidError without a type, TokenizerUnsupportedError for another. */
export function expectType(fields: Fields, where: string, type: string): void {
  if (typeof fields.type !== 'string') throw new TokenizerInvalidError(`${where}.type: missing`);
  if (fields.type !== type) throw new TokenizerUnsupportedError(`${where}: ${fields.type}`);
}

/** @throws TokenizerUnsupportedError for a field that is not among the known. */
export function refuseOthers(fields: Fields, where: string, known: readonly string[]): void {
  for (const name of Object.keys(fields)) {
    if (!known.includes(name)) throw new TokenizerUnsupportedError(`${where}.${name}`);
  }
}
