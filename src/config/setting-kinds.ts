import { isIP } from 'node:net';

/**
 * The kinds of settings. Each function makes one row of the table in `settings.ts`.
 */

/**
 * One documented setting: its variable, default, unit and meaning; the rest depends on its kind.
 */
export interface Setting<Value = unknown> {
  readonly environment: string;
  readonly default: Value;
  readonly unit: string;
  readonly meaning: string;
  /** Allowed range of a number, both ends included. */
  readonly range?: readonly [min: number, max: number];
  /** Allowed words. */
  readonly choices?: readonly string[];
  /** The value is shown nowhere: not in a log, not in `/info`, not in a message. */
  readonly isSecret?: true;
  /** Turns the variable's text into the value, or says in one clause what is wrong with it. */
  parse(raw: string): Value | Problem;
}

/** What is wrong with a variable, as a clause that follows its name. */
export class Problem {
  readonly message: string;
  /** The word of a list that is wrong; undefined where it is the whole variable. */
  readonly word: string | undefined;
  constructor(message: string, word?: string) {
    this.message = message;
    this.word = word;
  }
}

/** A whole number within a range, both ends included. */
export function integer(
  environment: string,
  value: number,
  range: readonly [number, number],
  unit: string,
  meaning: string,
): Setting<number> {
  const parse = (raw: string): number | Problem => {
    const parsed = Number(raw);
    const isInside = parsed >= range[0] && parsed <= range[1];
    if (/^\s*\d+\s*$/.test(raw) && isInside) return parsed;
    return new Problem(`must be a whole number from ${range[0]} to ${range[1]} (${unit})`);
  };
  return { environment, default: value, unit, meaning, range, parse };
}

/** Any text. */
export function text(
  environment: string,
  value: string,
  unit: string,
  meaning: string,
): Setting<string> {
  return { environment, default: value, unit, meaning, parse: (raw) => raw };
}

/** One of some words; the first is the default. */
export function choice<const Word extends string>(
  environment: string,
  choices: readonly Word[],
  meaning: string,
): Setting<Word> {
  const parse = (raw: string): Word | Problem =>
    choices.find((word) => word === raw) ?? new Problem(`must be one of ${choices.join(', ')}`);
  return { environment, default: choices[0], unit: 'word', meaning, choices, parse };
}

/** `on` or `off`. */
export function onOff(environment: string, value: boolean, meaning: string): Setting<boolean> {
  const parse = (raw: string): boolean | Problem => {
    if (raw === 'on') return true;
    return raw === 'off' ? false : new Problem('must be on or off');
  };
  return { environment, default: value, unit: 'on, off', meaning, choices: ['on', 'off'], parse };
}

/** Base URLs, comma-separated, without a path. */
export function urls(
  environment: string,
  value: string,
  meaning: string,
): Setting<readonly string[]> {
  const parse = (raw: string): readonly string[] | Problem => {
    const list = raw.split(',').map((url) => url.trim().replace(/\/+$/, ''));
    const wrong = list.find((url) => !/^https?:\/\/[^/?#]+$/.test(url) || !URL.canParse(url));
    if (wrong === undefined) return [...new Set(list)];
    return new Problem('must be http(s)://host:port, comma-separated', wrong);
  };
  return { environment, default: [value], unit: 'URLs', meaning, parse };
}

/**
 * Words, comma-separated; none by default unless told.
 *
 * @param pattern what each word must match whole; `wanted` says the same to people.
 */
export function words(
  environment: string,
  { unit, pattern, wanted, value = [] }: WordsKind,
  meaning: string,
): Setting<readonly string[]> {
  const parse = (raw: string): readonly string[] | Problem => {
    const list = raw.split(',').map((word) => word.trim());
    const wrong = list.find((word) => !pattern.test(word));
    if (wrong === undefined) return [...new Set(list)];
    return new Problem(`must be ${wanted}, comma-separated`, wrong);
  };
  return { environment, default: value, unit, meaning, parse };
}

interface WordsKind {
  readonly unit: string;
  readonly pattern: RegExp;
  readonly wanted: string;
  readonly value?: readonly string[];
}

/** Addresses and networks, comma-separated, and `unix` for whoever comes by the Unix socket. */
export function networks(environment: string, meaning: string): Setting<readonly string[]> {
  const parse = (raw: string): readonly string[] | Problem => {
    const list = raw.split(',').map((word) => word.trim());
    const wrong = list.find((word) => word !== 'unix' && !isNetwork(word));
    if (wrong === undefined) return [...new Set(list)];
    const wanted = 'addresses, networks like 10.0.0.0/8, or unix';
    return new Problem(`must be ${wanted}, comma-separated`, wrong);
  };
  return { environment, default: [], unit: 'networks', meaning, parse };
}

function isNetwork(word: string): boolean {
  const [address = '', bits, ...more] = word.split('/');
  const family = isIP(address);
  if (family === 0 || more.length > 0) return false;
  if (bits === undefined) return true;
  return /^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128);
}

/** Rights of a file as three octal digits; empty for those that the umask gives. */
export function fileMode(environment: string, meaning: string): Setting<string> {
  const parse = (raw: string): string | Problem =>
    /^0?[0-7]{3}$/.test(raw) ? raw : new Problem('must be three octal digits, like 660');
  return { environment, default: '', unit: 'octal', meaning, parse };
}

/** Words that are shown to nobody. */
export function secrets(environment: string, meaning: string): Setting<readonly string[]> {
  const kind = { unit: 'keys', pattern: SECRET, wanted: SECRET_WANTED };
  return { ...words(environment, kind, meaning), isSecret: true };
}

/** What an HTTP header can carry and a list can hold. */
export const SECRET = /^[!-+\--~]+$/;

/** `SECRET`, in words. */
export const SECRET_WANTED = 'keys of printable ASCII without blanks and commas';
