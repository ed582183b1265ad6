/**
 * Plants each fault of `src/testing/simulation/planted-faults.ts` into a copy of the sources and
 * runs the simulation there until a seed fails. Exits with 1 when one is not caught.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PLANTED_FAULTS } from '../../src/testing/simulation/planted-faults.ts';
import { count, readFlags, SEED, text } from '../flags.ts';

const values = readFlags(import.meta.path, {
  runs: count(400, [1, 1_000_000], 'seeds that may see a fault'),
  seed: SEED,
  only: text('NAME', '', 'faults whose name has this part'),
});
/** A run that never ends is caught as well. */
const RUN_MS_MAX = 120_000;

const root = join(import.meta.dir, '../..');
const copy = mkdtempSync(join(tmpdir(), 'planted-faults-'));
let survivors = 0;
try {
  for (const part of ['src', 'scripts', 'package.json', 'tsconfig.json']) {
    cpSync(join(root, part), join(copy, part), { recursive: true });
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  for (const { name, file, from, to, simulation = 'service-sim.ts' } of PLANTED_FAULTS) {
    if (!name.includes(values.only)) continue;
    const path = join(copy, 'src', file);
    const source = readFileSync(path, 'utf8');
    writeFileSync(
      path,
      source.replace(from, () => to),
    );
    const child = Bun.spawn(
      [
        process.execPath,
        `scripts/sim/${simulation}`,
        '--first',
        '--runs',
        String(values.runs),
        '--seed',
        String(values.seed),
      ],
      { cwd: copy, stdout: 'pipe', stderr: 'pipe', timeout: RUN_MS_MAX },
    );
    const said = await new Response(child.stdout).text();
    const seed = /^seed (\d+): (.*)/m.exec(said);
    // Without a seed it was the sources that broke, not a run; a run that never ends has none.
    const hasRunOn = (await child.exited) !== 0 && child.signalCode !== null;
    const isCaught = source.includes(from) && (seed !== null || hasRunOn);
    if (!isCaught) survivors++;
    console.log(`${isCaught ? 'caught' : 'NOT CAUGHT'}: ${name}${seed ? ` (${seed[0]})` : ''}`);
    writeFileSync(path, source);
  }
} finally {
  rmSync(copy, { recursive: true, force: true });
}
console.log(`${survivors} of ${PLANTED_FAULTS.length} planted faults were not caught`);
if (survivors > 0) process.exit(1);
