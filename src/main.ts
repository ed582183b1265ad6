import packageJson from '../package.json';
import { createLog } from './base/log.ts';
import { print } from './base/print.ts';
import { readConfig } from './config/read.ts';
import { readSources, settingLines } from './config/show.ts';
import { EXIT, exit, orExit } from './serve/exit-status.ts';
import { checkHealth } from './serve/healthcheck.ts';
import { processIndexOf } from './serve/processes/process-handle.ts';

// A log that cannot be written, on a full disk for instance, must not end the server.
process.stderr.on('error', () => undefined);

await main();

/**
 * Encodes a corpus; or reads the settings, and then shows them, asks their server how it is, is the
 * server, or looks after the processes that are. Each role is loaded when it is wanted, so that the
 * one that only looks after others stays small.
 */
async function main(): Promise<void> {
  const [verb, ...words] = process.argv.slice(2);
  if (verb === '--version') return print(`${packageJson.version}\n`);
  if (verb === 'embed') process.exit(await embed(words));
  refuseOthers(process.argv.slice(2));
  const config = orExit(() => readConfig(process.env));
  if (verb === '--healthcheck') process.exit(await checkHealth(config));
  if (verb === 'config') {
    return print(
      settingLines(config, process.env, readSources(words))
        .map((line) => `${line}\n`)
        .join(''),
    );
  }
  const index = processIndexOf(process.argv);
  const log = createLog({
    level: config.logLevel,
    write: (line) => process.stderr.write(line),
    ...(index === undefined ? {} : { always: { process: index } }),
  });
  if (config.serverProcesses > 1 && index === undefined) {
    const { supervise } = await import('./serve/processes/supervise.ts');
    const entry = import.meta.path;
    process.exit(await supervise({ entry, environment: process.env, config, log }));
  }
  const { serve } = await import('./serve/serve.ts');
  await serve({ config, log, index });
}

/** A word that nobody reads would leave its default in silence: `--model bge-m3`. */
function refuseOthers([verb, ...words]: readonly string[]): void {
  const isTold = processIndexOf([verb ?? '']) !== undefined || verb === '--healthcheck';
  const other = isTold ? words[0] : verb;
  if (other === undefined || verb === 'config') return;
  const verbs = 'embed, config, --healthcheck and --version';
  const flags = './run.sh takes flags; here each setting is a variable.';
  exit(EXIT.settings, `"${other}" is not known after main.ts, which takes ${verbs}: ${flags}`);
}

/** A corpus instead of a server: `src/corpus`. */
async function embed(words: readonly string[]): Promise<number> {
  const { runCorpusCommand } = await import('./corpus/command.ts');
  return runCorpusCommand(words, process.env);
}
