import { mkdirSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os';
import { join } from 'node:path';
import { say } from '../run-script.ts';
import type { Commit, Machine } from './bench-report.ts';

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

/** This machine, before anything is measured. */
export function thisMachine(): Machine {
  return {
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    coreCount: availableParallelism(),
    memoryBytes: totalmem(),
    system: `${type()} ${release()} ${process.arch}`,
    bun: Bun.version,
    loadBefore: loadavg()[0],
  };
}

/** What is checked out here; `unknown` outside a repository. */
export function thisCommit(): Commit {
  const id = git('rev-parse', '--short=12', 'HEAD');
  return { id: id === '' ? 'unknown' : id, isDirty: git('status', '--porcelain') !== '' };
}

function git(...command: readonly string[]): string {
  try {
    const result = Bun.spawnSync(['git', ...command], { cwd: import.meta.dir });
    return result.exitCode === 0 ? result.stdout.toString().trim() : '';
  } catch {
    return '';
  }
}
