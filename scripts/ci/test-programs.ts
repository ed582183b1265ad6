/**
 * Gets the programs that the tests need and no package of ours brings: Chromium, which looks at the
 * pages, Prometheus with promtool, which read the metrics, and nginx before a socket. Those of the
 * machine are used when it has them; otherwise Debian's (or Ubuntu's) packages are unpacked into
 * `.tools/programs`, which needs no root. Does nothing, in milliseconds, where they stand. `bun
 * scripts/ci/test-programs.ts`
 */
import { ProvisionError } from '../../src/provision/provision-error.ts';
import {
  lookForProgram,
  PROGRAMS_FOLDER,
  type ProgramName,
} from '../../src/testing/programs/find-program.ts';
import { unpackDebian } from './unpack-debian.ts';

const PROGRAMS: readonly ProgramName[] = ['chromium', 'prometheus', 'promtool', 'nginx'];

/** With everything that they need: a machine without a desktop lacks most of it. */
const WITH_DEPENDENCIES = ['chromium', 'fonts-dejavu-core'];

/** Alone: a program in one file, whose package asks for a web page's parts or a whole service. */
const ALONE = ['prometheus', 'nginx'];

function say(line: string): void {
  console.log(`test-programs: ${line}`);
}

function missing(): readonly ProgramName[] {
  return PROGRAMS.filter((name) => lookForProgram(name) === undefined);
}

function main(): void {
  const before = missing();
  if (before.length === 0) return;
  say(`unpacking ${before.join(', ')} into .tools/programs`);
  const startMs = performance.now();
  unpackDebian({
    folder: PROGRAMS_FOLDER,
    withDependencies: WITH_DEPENDENCIES,
    alone: ALONE,
    missing: before,
  });
  const after = missing();
  if (after.length > 0) throw new ProvisionError(`apt's packages hold no ${after.join(', ')}.`);
  say(`done in ${((performance.now() - startMs) / 1000).toFixed(0)} s`);
}

try {
  main();
} catch (error) {
  if (!(error instanceof ProvisionError)) throw error;
  say(error.message);
  process.exitCode = 1;
}
