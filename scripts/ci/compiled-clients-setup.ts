/**
 * Builds the clients of compiled languages that the tests call the server with, into
 * `.tools/compiled-clients`. Does nothing, in milliseconds, where they stand. `bun
 * scripts/ci/compiled-clients-setup.ts`
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { COMPILED_CLIENTS_FOLDER } from '../../src/testing/clients/compiled-clients.ts';
import { openGo } from './go-toolchain.ts';

const SOURCES = join(import.meta.dir, '../../src/testing/clients');

/** Pins and sums included. */
const GO_FILES = ['go.mod', 'go.sum', 'main.go'] as const;

function main(): void {
  const stamp = GO_FILES.map((name) => readFileSync(join(SOURCES, 'go', name), 'utf8')).join('\n');
  const stampFile = join(COMPILED_CLIENTS_FOLDER, 'go.stamp');
  if (existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) return;
  const startMs = performance.now();
  console.log('compiled-clients-setup: building go-openai');
  const root = `${COMPILED_CLIENTS_FOLDER}.partial-${process.pid}`;
  try {
    const work = join(root, 'work');
    mkdirSync(work, { recursive: true });
    const built = join(root, 'go-openai');
    const go = openGo({ work, bin: root });
    go(['build', '-buildvcs=false', '-ldflags=-s -w', '-o', built, '.'], {
      cwd: join(SOURCES, 'go'),
    });
    mkdirSync(COMPILED_CLIENTS_FOLDER, { recursive: true });
    renameSync(built, join(COMPILED_CLIENTS_FOLDER, 'go-openai'));
    writeFileSync(stampFile, stamp);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
  const seconds = ((performance.now() - startMs) / 1000).toFixed(0);
  console.log(`compiled-clients-setup: done in ${seconds} s`);
}

try {
  main();
} catch (error) {
  console.error(`compiled-clients-setup: ${(error as Error).message}`);
  process.exit(1);
}
