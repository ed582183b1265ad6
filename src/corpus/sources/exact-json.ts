/**
 * JSON whose integers keep all their digits: beyond 2^53 two ids would become one. What 64 bits do
 * not hold either becomes a string.
 *
 * @throws SyntaxError
 */
export function parseExactJson(text: string): unknown {
  const value: unknown = JSON.parse(text);
  return hasInexact(value) ? JSON.parse(text, exactOf) : value;
}

function exactOf(_: string, value: unknown, { source }: { source?: string } = {}): unknown {
  return source === undefined ? value : exactNumber(value, source);
}

/** @param source the digits that the value was read from. */
export function exactNumber(value: unknown, source: string): unknown {
  if (!isInexact(value) || !/^-?\d+$/.test(source)) return value;
  const exact = BigInt(source);
  return BigInt.asIntN(64, exact) === exact ? exact : source;
}

/** Looks into lists and objects as well: an id may lie in one. */
function hasInexact(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return isInexact(value);
  if (Array.isArray(value)) return value.some(hasInexact);
  for (const name in value) {
    if (hasInexact((value as Record<string, unknown>)[name])) return true;
  }
  return false;
}

function isInexact(value: unknown): boolean {
  return Number.isInteger(value) && !Number.isSafeInteger(value);
}
