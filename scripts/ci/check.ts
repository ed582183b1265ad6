/**
 * `bun run check`: lint, types, shell scripts and all tests, as a developer, a commit and
 * continuous integration run it.
 *
 * Every step runs, whatever the ones before it said. The last line of the output is `N passed, N
 * failed`; the exit status is 0 only when nothing failed and at least one test ran. Arguments go to
 * `bun test`.
 */
import { mkdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { runCommand, runVisibly } from '../../src/provision/run-command.ts';
import { formatTotals, judgeCheck, parseJUnitTotals, type StepResult } from './check-totals.ts';

const REPORT = 'reports/junit.xml';
const SHELL_SCRIPTS = [
  ...['run.sh', '.ci/run', 'scripts/gpu-rehearsal.sh'],
  'src/testing/readme/fake-cluster.sh',
];

// Tests of the whole program start real servers, on machines that do other things at once. Bun's
// own default is 5 s, and it takes no other from bunfig.toml.
const TEST_MS_MAX = 60_000;

// For a third of its time the suite waits for programs that it has started, so files run two at a
// time, each process with one global: a process of Bun 1.4 that isolates its files crashes.
const PARALLEL = ['--parallel=2', '--no-isolate'];

// The audit asks a registry; without a network it must not hold up a check for longer than this.
const AUDIT_MS_MAX = 15_000;

async function runStep(name: string, command: readonly string[]): Promise<StepResult> {
  console.log(`\n== ${name}`);
  const startMs = performance.now();
  const isOk = await succeeds(command);
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
  console.log(`== ${name} ${isOk ? 'passed' : 'FAILED'} (${seconds} s)`);
  return { name, isOk };
}

async function succeeds(command: readonly string[]): Promise<boolean> {
  try {
    return (await runVisibly(command, { stdout: 1 })) === 0;
  } catch (error) {
    console.log((error as Error).message);
    return false;
  }
}

/** `./run.sh test` installs shellcheck beside the other tools; a system's own is as good. */
async function findShellcheck(): Promise<string> {
  const local = '.tools/shellcheck/bin/shellcheck';
  if (await Bun.file(local).exists()) return local;
  const found = Bun.which('shellcheck');
  if (found === null) console.log('shellcheck is missing: ./run.sh test installs it.');
  return found ?? local;
}

async function runTests(): Promise<StepResult> {
  await rm(REPORT, { force: true });
  await mkdir(dirname(REPORT), { recursive: true });
  const reporter = ['--reporter=junit', `--reporter-outfile=${REPORT}`];
  const options = [...reporter, ...PARALLEL, `--timeout=${TEST_MS_MAX}`];
  return runStep('tests', [process.execPath, 'test', ...options, ...process.argv.slice(2)]);
}

/**
 * Tells of known holes in dependencies. It never fails the check: they appear without a change of
 * ours, and the registry may be out of reach.
 */
async function audit(): Promise<void> {
  console.log('\n== audit');
  const { exitCode, out, errors } = await runCommand([process.execPath, 'audit'], {
    timeoutMs: AUDIT_MS_MAX,
  });
  // The first line is a title.
  const report = out.trim().split('\n').slice(1).join('\n').trim();
  const reason = errors.trim().split('\n').at(-1) || 'the registry did not answer';
  if (report !== '') console.log(report);
  else console.log(exitCode === 0 ? 'no known holes' : `not done: ${reason}`);
}

async function main(): Promise<number> {
  const steps = [
    await runStep('lint', ['node_modules/.bin/biome', 'check', '--error-on-warnings', '.']),
    await runStep('types', ['node_modules/.bin/tsc', '--noEmit']),
    await runStep('shell scripts', [await findShellcheck(), ...SHELL_SCRIPTS]),
  ];
  await audit();
  const tests = await runTests();
  const report = await Bun.file(REPORT)
    .text()
    .catch(() => null);
  const judged = judgeCheck({ totals: parseJUnitTotals(report), tests, steps });
  const failed = [...steps, tests].filter((step) => !step.isOk).map((step) => step.name);
  console.log(failed.length === 0 ? '\nAll steps passed.' : `\nFailed: ${failed.join(', ')}.`);
  console.log(formatTotals(judged.totals));
  return judged.isOk ? 0 : 1;
}

process.exitCode = await main();
