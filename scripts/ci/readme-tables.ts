/**
 * Writes the README's tables of settings, error codes and GPU plans anew, from the code that they
 * describe: `bun scripts/ci/readme-tables.ts`. A test fails while they differ.
 */
import { join } from 'node:path';
import { ERRORS } from '../../src/base/errors.ts';
import type { Setting } from '../../src/config/setting-kinds.ts';
import { SETTINGS } from '../../src/config/settings.ts';
import { planProfiles } from '../../src/model/engine-profiles.ts';
import { planTable } from '../../src/provision/export/engine/describe-plan.ts';
import { engineModelOf } from '../../src/provision/export/engine/fit-profiles.ts';

const README = join(import.meta.dir, '../../README.md');

/**
 * Puts the tables between their markers, `<!-- settings -->` and the like.
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
  const withErrors = replaced(withSettings, 'errors', [
    ['code', 'status', 'retry', 'meaning'],
    ...errors,
  ]);
  return replaced(withErrors, 'gpu-plans', gpuPlans());
}

/** What `./run.sh export --plan --gpu-memory SIZE` says, for usual sizes. */
function gpuPlans(): readonly (readonly string[])[] {
  const wanted = planProfiles({
    batchTokensMax: SETTINGS.batchTokensMax.default,
    tokensMax: 8_192,
    batchTextsMax: SETTINGS.batchTextsMax.default,
  });
  const sizes = [8, 16, 24, 40, 80];
  return [
    ['free', 'attention fused', 'serving', 'building', 'not fused', 'serving', 'building'],
    ...planTable({ model: engineModelOf(1_024), wanted, gigabytes: sizes }),
  ];
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
