import { readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';

const ROOT = join(import.meta.dir, '..');

/** A flag that does not exist or cannot be so; one line for the caller. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** A flag of a script. */
export interface Flag<Value> {
  /** What stands behind the flag in the help: `N`, `NAME`. Empty: nothing, it is a switch. */
  readonly operand: string;
  readonly preset: string;
  readonly meaning: string;
  /** May stand several times; what came then follows one another, a line each. */
  readonly isRepeated?: true;
  /** @throws UsageError */
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

/** A number that need not be whole. */
export function amount(
  preset: number,
  [min, max]: readonly [min: number, max: number],
  meaning: string,
): Flag<number> {
  return {
    ...{ operand: 'N', preset: String(preset), meaning },
    read(raw, flag) {
      const value = Number(raw);
      if (raw !== '' && value >= min && value <= max) return value;
      throw new UsageError(`${flag} must be a number from ${min} to ${max}, not "${raw}"`);
    },
  };
}

/** Stands there or not. */
export function onOff(meaning: string): Flag<boolean> {
  return { operand: '', preset: '', meaning, read: (raw) => raw !== '' };
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
      throw new UsageError(`${flag} must be one of ${names.join(', ')}, not "${raw}"`);
    },
  };
}

/** Any text. */
export function text(operand: string, preset: string, meaning: string): Flag<string> {
  return { operand, preset, meaning, read: (raw) => raw };
}

/** Each of several values by commas. */
export function listOf<Value>(item: Flag<Value>, preset = item.preset): Flag<readonly Value[]> {
  return {
    operand: `${item.operand}S`,
    preset,
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
    throw new UsageError(`${flag} FOLDER is missing.`);
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
        throw new UsageError(`${flag} must be NAME=VALUE, not "${pair}"`);
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
 * Reads the command line of a script. With `--help` it prints the comment that the script begins
 * with and its flags, and ends the process. For a flag that does not exist or cannot be so it
 * prints one line and ends it with exit status 2. So it comes before anything is started.
 *
 * @param path of the script itself.
 * @param more said below the flags.
 */
export function readFlags<Flags extends Readonly<Record<string, Flag<unknown>>>>(
  path: string,
  flags: Flags,
  more?: string,
): { readonly [Name in keyof Flags]: ReturnType<Flags[Name]['read']> } {
  try {
    const raw = parse(flags);
    if (raw.help === true) {
      console.log(helpOf(path, flags, more));
      process.exit(0);
    }
    const values = Object.entries(flags).map(([name, flag]) => [
      name,
      flag.read([raw[name] ?? flag.preset].flat().join('\n'), `--${name}`),
    ]);
    return Object.fromEntries(values);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(`${relative(ROOT, path)}: ${error.message}`);
    process.exit(2);
  }
}

function parse(
  flags: Readonly<Record<string, Flag<unknown>>>,
): Record<string, string | boolean | readonly (string | boolean)[] | undefined> {
  const known = Object.entries(flags).map(([name, { operand, isRepeated = false }]) => {
    const type = operand === '' ? 'boolean' : 'string';
    return [name, { type, multiple: isRepeated }] as const;
  });
  const options = { ...Object.fromEntries(known), help: { type: 'boolean' } } as const;
  try {
    return { ...parseArgs({ options }).values };
  } catch (error) {
    // What follows the first sentence tells how else it could have been meant.
    const [first] = (error as Error).message.split(/[.\n]\s/);
    throw new UsageError(`${first} (--help explains)`);
  }
}

function helpOf(
  path: string,
  flags: Readonly<Record<string, Flag<unknown>>>,
  more: string | undefined,
): string {
  const heads = Object.entries(flags).map(([name, { operand }]) => `--${name} ${operand}`);
  const width = Math.max(...heads.map(({ length }) => length));
  const lines = Object.values(flags).map(
    ({ meaning, preset }, at) =>
      `  ${heads[at].padEnd(width)}  ${meaning}${preset === '' ? '' : ` (${preset})`}`,
  );
  const usage = `bun ${relative(ROOT, path)}${lines.length > 0 ? ' [FLAGS]' : ''}`;
  const parts = [usage, aboutOf(path), lines.join('\n'), more];
  return parts.filter((part) => part !== undefined && part !== '').join('\n\n');
}

/** The comment that a script begins with. */
function aboutOf(path: string): string {
  const comment = /^\/\*\*(.*?)\*\//s.exec(readFileSync(path, 'utf8'))?.[1] ?? '';
  return comment.replace(/^ *\* ?/gm, '').trim();
}

/** @throws UsageError */
export function wholeNumber(
  flag: string,
  raw: string,
  [min, max]: readonly [min: number, max: number],
): number {
  const value = Number(raw);
  if (raw !== '' && Number.isInteger(value) && value >= min && value <= max) return value;
  throw new UsageError(`${flag} must be a whole number from ${min} to ${max}, not "${raw}"`);
}
