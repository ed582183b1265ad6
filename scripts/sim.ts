/**
 * `bun run sim`: everything that is run with many seeds, one script of `scripts/sim/*-sim.ts` after
 * the other. A flag goes to the scripts that have it; the others, and all without it, have defaults
 * of their own. The exit status is 0 only when all of them passed.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { onOff, readFlags, text } from './flags.ts';

const values = readFlags(import.meta.path, {
  runs: text('N', '', 'goes to the scripts that have such a flag'),
  seed: text('N', '', 'the same'),
  only: text('NAME', '', 'scripts whose name contains it'),
  list: onOff('prints their names, and runs none'),
});
const folder = join(import.meta.dir, 'sim');
const names = readdirSync(folder)
  .filter((file) => file.endsWith('-sim.ts') && file.includes(values.only))
  .sort();
if (names.length === 0) {
  console.log(`No script of scripts/sim has "${values.only}" in its name.`);
  process.exit(1);
}
if (values.list) {
  console.log(names.join('\n'));
  process.exit(0);
}

const failed: string[] = [];
for (const name of names) {
  const startMs = performance.now();
  console.log(`\n== ${name}`);
  const { stdout } = Bun.spawnSync([process.execPath, join(folder, name), '--help']);
  const help = stdout.toString();
  const given = (['runs', 'seed'] as const).flatMap((option) =>
    values[option] !== '' && help.includes(`--${option} `) ? [`--${option}`, values[option]] : [],
  );
  const child = Bun.spawn([process.execPath, join(folder, name), ...given], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const isOk = (await child.exited) === 0;
  if (!isOk) failed.push(name);
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
  console.log(`== ${name} ${isOk ? 'passed' : 'FAILED'} (${seconds} s)`);
}
console.log(`\n${names.length - failed.length} passed, ${failed.length} failed`);
if (failed.length > 0) process.exit(1);
