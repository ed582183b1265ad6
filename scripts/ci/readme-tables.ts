/**
 * Writes the README's tables of settings and of error codes anew, from `src/config/settings.ts` and
 * `src/base/errors.ts`: `bun scripts/ci/readme-tables.ts`. A test fails while they differ.
 */
import { join } from 'node:path';
import { ERRORS } from '../../src/base/errors.ts';
import type { Setting } from '../../src/config/setting-kinds.ts';
import { SETTINGS } from '../../src/config/settings.ts';

const README = join(import.meta.dir, '../../README.md');

/**
 * Puts the tables between their markers, `<!-- settings -->` and `<!-- errors -->`.
 *
 * @param readme the text as it stands.
 * @throws Error when a pair of markers is missing.
 */
export function withTables(readme: string): string {
  const settings = Object.values<Setting>(SETTINGS).map((setting) => [
    code(setting.environment),
    shownDefault(setting.default),
    shownRange(setting),
    setting.meaning,
  ]);
  const errors = Object.entries(ERRORS).map(([name, { status, retryable, meaning }]) => [
    code(name),
    String(status),
    retryable ? 'yes' : 'no',
    meaning,
  ]);
  const withSettings = replaced(readme, 'settings', [
    ['variable', 'default', 'values', 'meaning'],
    ...settings,
  ]);
  return replaced(withSettings, 'errors', [['code', 'status', 'retry', 'meaning'], ...errors]);
}

function replaced(readme: string, name: string, rows: readonly (readonly string[])[]): string {
  const start = `<!-- ${name} -->\n`;
  const end = `<!-- /${name} -->`;
  const from = readme.indexOf(start);
  const to = readme.indexOf(end);
  if (from < 0 || to < from) throw new Error(`The README has no ${start.trim()} … ${end}.`);
  return readme.slice(0, from + start.length) + tableOf(rows) + readme.slice(to);
}

function tableOf([head = [], ...rows]: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`;
  return `\n${[head, head.map(() => '---'), ...rows].map(line).join('')}\n`;
}

function shownDefault(value: unknown): string {
  if (typeof value === 'boolean') return code(value ? 'on' : 'off');
  const text = Array.isArray(value) ? value.join(',') : String(value);
  return text === '' ? 'empty' : code(text);
}

/** Numbers as their range with the unit, words as they are, anything else by its unit. */
function shownRange({ range, choices, unit }: Setting): string {
  if (range !== undefined) return `${range[0]} to ${range[1]} ${unit}`;
  return choices === undefined ? unit : choices.map(code).join(', ');
}

function code(text: string): string {
  return `\`${text}\``;
}

if (import.meta.main) {
  const before = await Bun.file(README).text();
  const after = withTables(before);
  if (after !== before) await Bun.write(README, after);
  console.log(after === before ? 'README.md is up to date' : 'README.md has new tables');
}
