import { availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os';
import type { Commit, Machine } from './bench-report.ts';

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
