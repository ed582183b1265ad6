/**
 * `bun run sim`: everything that is run with many seeds, one script of `scripts/sim/*-sim.ts` after
 * the other. An option goes to the scripts whose usage names it; the others, and all
 * without it, have defaults of their own.
 *
 * usage: bun run sim [--runs N] [--seed N] [--only name] [--list]
 *
 * `--only` picks scripts whose name contains it. The exit status is 0 only when all of them passed.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    runs: { type: 'string' },
    seed: { type: 'string' },
    only: { type: 'string', default: '' },
    list: { type: 'boolean', default: false },
  },
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
  const usage = readFileSync(join(folder, name), 'utf8').slice(0, 2000);
  const given = (['runs', 'seed'] as const).flatMap((option) =>
    values[option] !== undefined && usage.includes(`--${option}`)
      ? [`--${option}`, values[option]]
      : [],
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
