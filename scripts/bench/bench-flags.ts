import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { BenchUsageError, wholeNumber } from './bench-options.ts';

/** A flag of a bench that answers a single question. */
export interface Flag<Value> {
  /** What stands behind the flag in the help: `N`, `NAME`. */
  readonly operand: string;
  readonly preset: string;
  readonly meaning: string;
  /** @throws BenchUsageError */
  read(raw: string, flag: string): Value;
}

/** A whole number. */
export function count(
  preset: number,
  range: readonly [min: number, max: number],
  meaning: string,
): Flag<number> {
  const read = (raw: string, flag: string): number => wholeNumber(flag, raw, range);
  return { operand: 'N', preset: String(preset), meaning, read };
}

/** One of some names, the first unless told. */
export function oneOf<Name extends string>(
  names: readonly [Name, ...Name[]],
  meaning: string,
): Flag<Name> {
  return {
    ...{ operand: 'NAME', preset: names[0], meaning: `${meaning}: ${names.join(', ')}` },
    read(raw, flag) {
      const name = names.find((known) => known === raw);
      if (name !== undefined) return name;
      throw new BenchUsageError(`${flag} must be one of ${names.join(', ')}, not "${raw}"`);
    },
  };
}

/** Any text. */
export function text(operand: string, preset: string, meaning: string): Flag<string> {
  return { operand, preset, meaning, read: (raw) => raw };
}

/** Turns of each contender. */
export const ROUNDS = count(5, [1, 100], 'turns of each; medians come of them');

/** What is drawn at random. */
export const SEED = count(1, [0, 1_000_000_000], 'texts and their order');

/** How long a turn takes. */
export const secondsFlag = (preset: number): Flag<number> =>
  count(preset, [1, 600], 'seconds of each turn');

/**
 * Reads the command line of a bench. With `--help` it says what there is and ends the process.
 *
 * @param path of the bench itself.
 * @param more said below the flags.
 * @throws BenchUsageError for a flag that does not exist or cannot be so.
 */
export function readFlags<Flags extends Readonly<Record<string, Flag<unknown>>>>(
  path: string,
  flags: Flags,
  more?: string,
): { readonly [Name in keyof Flags]: ReturnType<Flags[Name]['read']> } {
  const raw = parse(Object.keys(flags));
  if (raw.help === true) {
    console.log(helpOf(basename(path), flags, more));
    process.exit(0);
  }
  const values = Object.entries(flags).map(([name, flag]) => [
    name,
    flag.read(String(raw[name] ?? flag.preset), `--${name}`),
  ]);
  return Object.fromEntries(values);
}

function parse(names: readonly string[]): Record<string, string | boolean | undefined> {
  const known = names.map((name) => [name, { type: 'string' }] as const);
  const options = { ...Object.fromEntries(known), help: { type: 'boolean' } } as const;
  try {
    return { ...parseArgs({ options }).values };
  } catch (error) {
    throw new BenchUsageError(`${(error as Error).message} (--help explains)`);
  }
}

function helpOf(
  script: string,
  flags: Readonly<Record<string, Flag<unknown>>>,
  more: string | undefined,
): string {
  const heads = Object.entries(flags).map(([name, { operand }]) => `--${name} ${operand}`);
  const width = Math.max(...heads.map(({ length }) => length));
  const lines = Object.values(flags).map(
    ({ meaning, preset }, at) =>
      `  ${heads[at].padEnd(width)}  ${meaning}${preset === '' ? '' : ` (${preset})`}`,
  );
  const below = more === undefined ? [] : ['', more];
  return [`bun scripts/bench/${script} [FLAGS]`, '', ...lines, ...below].join('\n');
}
