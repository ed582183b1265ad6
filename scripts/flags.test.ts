import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Every script of `bench/` and `sim/` says what it is and what it takes, and refuses the rest.
 *
 * Faults that were planted by hand, and that this suite caught: a script that starts before it
 * reads its flags, one that reads none, an error with its stack.
 */

setDefaultTimeout(60_000);

const ROOT = join(import.meta.dir, '..');

/** A help fits on a screen. */
const LINES_MAX = 50;

/** Who asks for help waits no longer; a server or a model takes longer to start. */
const HELP_MS_MAX = 20_000;

/** Files that run by themselves: they export nothing, or say what they do when they are run. */
const SCRIPTS = ['bench', 'sim'].flatMap((folder) =>
  readdirSync(join(ROOT, 'scripts', folder))
    .filter((file) => /(?<!\.test|-worker)\.ts$/.test(file))
    .map((file) => `scripts/${folder}/${file}`)
    .filter((path) => {
      const source = readFileSync(join(ROOT, path), 'utf8');
      return !/^export /m.test(source) || source.includes('import.meta.main');
    }),
);

async function run(path: string, ...words: string[]) {
  const child = Bun.spawn([process.execPath, path, ...words], {
    ...{ cwd: ROOT, stdin: 'ignore', stdout: 'pipe', stderr: 'pipe', timeout: HELP_MS_MAX },
    // A script that makes a folder before it reads its flags fails.
    env: { ...process.env, TMPDIR: '/dev/null' },
  });
  const [stdout, stderr] = await Promise.all(
    [child.stdout, child.stderr].map((stream) => new Response(stream).text()),
  );
  return { status: await child.exited, stdout, stderr };
}

test('there are scripts', () => {
  expect(SCRIPTS.length).toBeGreaterThan(35);
  expect(SCRIPTS).toContain('scripts/bench/bge-cpu-bench.ts');
});

describe.each(['scripts/bench.ts', 'scripts/sim.ts', ...SCRIPTS])('%s', (path) => {
  test('--help', async () => {
    const { status, stdout, stderr } = await run(path, '--help');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^bun (scripts|run) ?/);
    expect(stdout.split('\n').length).toBeLessThan(LINES_MAX);
  });
});

describe('a wrong command line', () => {
  const script = 'scripts/bench/bge-cpu-bench.ts';
  test.each([
    ['an unknown flag', '--no-such', "Unknown option '--no-such'"],
    ['a word', 'word', "Unexpected argument 'word'"],
    ['a value out of its range', '--rounds=0', '--rounds must be a whole number from 1 to 100'],
    ['one of a list', '--lengths=16,x', '--lengths must be a whole number from 1 to 8192'],
    ['a flag without its value', '--model', '--model'],
  ])('%s is one line, and exit status 2', async (_what, word, told) => {
    const { status, stdout, stderr } = await run(script, word);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toStartWith(`${script}: `);
    expect(stderr).toContain(told);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });
});
