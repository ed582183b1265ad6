import { basename, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { BenchUsageError, wholeNumber } from './bench-options.ts';

/** A flag of a bench that answers a single question. */
export interface Flag<Value> {
  /** What stands behind the flag in the help: `N`, `NAME`. */
  readonly operand: string;
  readonly preset: string;
  readonly meaning: string;
  /** May stand several times; what came then follows one another, a line each. */
  readonly isRepeated?: true;
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

/** Each of several values by commas. */
export function listOf<Value>(item: Flag<Value>): Flag<readonly Value[]> {
  return {
    operand: `${item.operand}S`,
    preset: item.preset,
    meaning: `${item.meaning}; several by commas`,
    read: (raw, flag) => raw.split(',').map((word) => item.read(word, flag)),
  };
}

/** Another checkout of this repository, which must be named. */
export const BASELINE: Flag<string> = {
  operand: 'FOLDER',
  preset: '',
  meaning: 'another checkout of this repository, set up: its server is the baseline',
  read(raw, flag) {
    if (raw !== '') return resolve(raw);
    throw new BenchUsageError(`${flag} FOLDER is missing.`);
  },
};

/** Settings of this checkout's server alone. */
export const SETTINGS: Flag<Readonly<Record<string, string>>> = {
  operand: 'NAME=VALUE',
  preset: '',
  meaning: "a setting of this checkout's server alone; may stand several times",
  isRepeated: true,
  read(raw, flag) {
    const pairs = raw.split('\n').filter((pair) => pair !== '');
    return Object.fromEntries(
      pairs.map((pair) => {
        const at = pair.indexOf('=');
        if (at > 0) return [pair.slice(0, at), pair.slice(at + 1)];
        throw new BenchUsageError(`${flag} must be NAME=VALUE, not "${pair}"`);
      }),
    );
  },
};

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
  const raw = parse(flags);
  if (raw.help === true) {
    console.log(helpOf(basename(path), flags, more));
    process.exit(0);
  }
  const values = Object.entries(flags).map(([name, flag]) => [
    name,
    flag.read([raw[name] ?? flag.preset].flat().join('\n'), `--${name}`),
  ]);
  return Object.fromEntries(values);
}

function parse(
  flags: Readonly<Record<string, Flag<unknown>>>,
): Record<string, string | boolean | readonly (string | boolean)[] | undefined> {
  const known = Object.entries(flags).map(
    ([name, { isRepeated = false }]) => [name, { type: 'string', multiple: isRepeated }] as const,
  );
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
