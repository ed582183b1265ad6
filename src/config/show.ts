import { maskCredentials } from '../base/url-credentials.ts';
import type { Environment } from './fit.ts';
import type { Setting } from './setting-kinds.ts';
import { type Config, SETTINGS } from './settings.ts';

/**
 * Every setting as a line: variable, value, and where the value is from. Of secrets there is only
 * how many.
 *
 * @param sources where a variable is from, by name, as `run.sh` knows it. What it does not name and
 * the environment has is from the environment.
 */
export function settingLines(
  config: Config,
  environment: Environment,
  sources: Readonly<Record<string, string>>,
): readonly string[] {
  const rows = Object.entries<Setting>(SETTINGS).map(([name, setting]) => {
    const value: unknown = Reflect.get(config, name);
    const variable = setting.environment;
    const isSet = (environment[variable] ?? '') !== '';
    const isFitted = JSON.stringify(value) !== JSON.stringify(setting.default);
    const otherwise = isFitted ? 'this machine' : 'default';
    const source = isSet ? (sources[variable] ?? 'environment') : otherwise;
    return [variable, setting.isSecret ? countOf(value) : shownValue(value), source];
  });
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map(([variable, value, source]) =>
    [variable.padEnd(widths[0]), value.padEnd(widths[1]), source].join('  '),
  );
}

function countOf(value: unknown): string {
  return `${(value as readonly string[]).length} hidden`;
}

/** As the variable would be written; a password in a URL is masked. */
function shownValue(value: unknown): string {
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  const written = Array.isArray(value) ? value.join(',') : String(value);
  return maskCredentials(written) || '-';
}

/** `NAME=where it is from`, one an argument. */
export function readSources(words: readonly string[]): Readonly<Record<string, string>> {
  return Object.fromEntries(
    words.map((word) => {
      const at = word.indexOf('=');
      return [word.slice(0, at), word.slice(at + 1)];
    }),
  );
}
