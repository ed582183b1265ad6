import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { say } from '../progress.ts';
import { thisCommit, thisMachine } from './machine.ts';

const REPORTS = join(import.meta.dir, '../../../reports');

/**
 * Writes what a single bench found to `reports/<name>-<time>.json`, with machine, commit and
 * settings.
 */
export async function saveRun(
  name: string,
  settings: Readonly<Record<string, unknown>>,
  found: unknown,
): Promise<void> {
  mkdirSync(REPORTS, { recursive: true });
  const startedAt = new Date().toISOString();
  const path = join(REPORTS, `${name}-${startedAt.replace(/[:.]/g, '-')}.json`);
  const run = { startedAt, commit: thisCommit(), machine: thisMachine(), settings, found };
  await Bun.write(path, JSON.stringify(run, null, 1));
  say(path);
}
