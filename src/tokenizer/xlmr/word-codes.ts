import type { TokenizerTables } from './compiled-format.ts';
import { ROUTE, SPECIAL } from './route.ts';

/**
 * How the current word began. A word that began by itself and has nothing in it yet does not exist.
 */
export const OPENED = { byItself: 0, bySpace: 1, byMark: 2 } as const;

/** Codes of one word before the array grows, and how many are kept after use: 128 kB. */
export const CODES = { usual: 4096, kept: 65_536 } as const;

/** @returns a copy of `codes` that has room for `count`. */
export function longerCodes(codes: Uint16Array, count: number): Uint16Array<ArrayBuffer> {
  const grown = new Uint16Array(count * 2);
  grown.set(codes);
  return grown;
}

/** Units that are compared at a time in a run. A shorter run is not worth looking for. */
export const RUN_STEP = 256;

/**
 * Where, at least a step behind `from`, a step of one unit begins; or `end`. It looks at one place
 * in each step, so that prose pays next to nothing for it.
 */
export function findRun(text: string, from: number, end: number): number {
  for (let at = from + RUN_STEP; at + RUN_STEP <= end; at += RUN_STEP) {
    if (mayBeRun(text, at) && countRun(text, at, at + RUN_STEP) > 0) return at;
  }
  return end;
}

/** Whether what stands around `index` looks like the middle of a run. */
export function mayBeRun(text: string, index: number): boolean {
  const unit = text.charCodeAt(index);
  return text.charCodeAt(index - 1) === unit && text.charCodeAt(index + 1) === unit;
}

/**
 * How often the unit before `index` follows, a multiple of `RUN_STEP`. The runtime compares many at
 * a time.
 */
export function countRun(text: string, index: number, end: number): number {
  const part = text.charAt(index - 1).repeat(RUN_STEP);
  let at = index;
  while (at + RUN_STEP <= end && text.startsWith(part, at)) at += RUN_STEP;
  return at - index;
}

/**
 * Puts the run of the unit before `at` into a word, as far as it is long and its codes do not
 * depend on what else is there.
 *
 * @returns where to go on.
 */
export function putRun(
  tables: TokenizerTables,
  text: string,
  { at, to }: { readonly at: number; readonly to: number },
  { codes, count }: { readonly codes: Uint16Array; readonly count: number },
): number {
  const code = mayBeRun(text, at) ? codeInRun(tables, text.charCodeAt(at)) : -1;
  if (code === -1) return at;
  const length = countRun(text, at, to);
  codes.fill(code, count, count + length);
  return at + length;
}

/** The code that a unit has behind itself; or -1 when it depends on what else is there. */
function codeInRun(tables: TokenizerTables, unit: number): number {
  const route = tables.unitRoutes[unit];
  if (route < ROUTE.special) return route;
  if (route >= ROUTE.surrogate) return -1;
  const special = route - ROUTE.special;
  // No pair begins with what comes second in one.
  return tables.specialFlags[special] === SPECIAL.second ? tables.specialCodes[special] : -1;
}
