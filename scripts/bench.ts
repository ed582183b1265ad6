/**
 * `bun run bench`: micro-benchmarks, then the whole server under load, each part in a process of
 * its own. A table goes to standard output, the same with plots and as JSON to `reports/`. Any
 * wrong reply ends it without a report.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { print } from '../src/base/print.ts';
import { HELP, readBenchOptions } from './bench/bench-options.ts';
import { WrongReplyError } from './bench/measure.ts';
import { runMicro } from './bench/micro/run-micro.ts';
import type { BenchReport } from './bench/report/bench-report.ts';
import { compareReports, readReport } from './bench/report/compare.ts';
import { htmlReport } from './bench/report/html-report.ts';
import { thisCommit, thisMachine } from './bench/report/save-run.ts';
import { reportTables } from './bench/report/text-table.ts';
import { MODELS_DIR, runScenario } from './bench/run-scenario.ts';
import { say } from './bench/run-script.ts';
import { UsageError } from './flags.ts';

const EXIT = { wrong: 1, usage: 2 } as const;

async function main(): Promise<void> {
  const options = readBenchOptions(process.argv.slice(2));
  if (options === 'help') {
    await print(`${HELP}\n`);
    return;
  }
  const earlier = options.compare === undefined ? undefined : await readReport(options.compare);
  const startedAt = new Date().toISOString();
  const machine = thisMachine();
  const stem = join(options.outDir, `bench-${startedAt.replace(/[:.]/g, '-')}`);
  const micro = options.hasMicro
    ? await runMicro({ modelsDir: MODELS_DIR, timeMs: options.microMs })
    : [];
  const profilesDir = options.profile ? `${stem}-profiles` : undefined;
  const scenarios: BenchReport['scenarios'][number][] = [];
  for (const scenario of options.scenarios) {
    scenarios.push(await runScenario(scenario, { ...options, profilesDir }));
  }
  const { times, microMs, url } = options;
  const settings = { ...times, microMs, profile: options.profile, ...(url ? { url } : {}) };
  const commit = thisCommit();
  const report: BenchReport = {
    version: 1,
    startedAt,
    commit,
    machine,
    settings,
    micro,
    scenarios,
  };
  await print(`${reportTables(report)}\n`);
  if (earlier !== undefined) await print(`\n${compareReports({ earlier, now: report })}\n`);
  mkdirSync(options.outDir, { recursive: true });
  await Bun.write(`${stem}.json`, JSON.stringify(report, null, 1));
  await Bun.write(`${stem}.html`, htmlReport(report));
  say(`${stem}.html and ${stem}.json`);
}

try {
  await main();
} catch (error) {
  const { message } = error as Error;
  const isKnown = error instanceof WrongReplyError || error instanceof UsageError;
  say(isKnown ? message : ((error as Error).stack ?? message));
  if (!(error instanceof UsageError)) say('no report: something above went wrong');
  process.exitCode = error instanceof UsageError ? EXIT.usage : EXIT.wrong;
}
