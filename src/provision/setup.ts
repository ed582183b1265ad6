/**
 * Sets up a model: `bun src/provision/setup.ts [--model NAME] [--scope all|tokenizer] [--models-dir
 * FOLDER]`.
 *
 * `run.sh` calls it when a model's stamp is missing or no longer holds. Exit status 0 when all
 * files are there and verified, 1 with one line on what failed and what to do, 2 when called
 * wrongly.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { systemClock } from '../base/clock.ts';
import { createLog } from '../base/log.ts';
import { ModelFileError } from '../model/files.ts';
import { ManifestError, type ModelManifest } from '../model/manifest.ts';
import { openTokenizer } from '../tokenizer/open-tokenizer.ts';
import { ensureMappedCopy } from './mapped/mapped-copy.ts';
import { ProvisionError } from './provision-error.ts';
import { runVisibly } from './run-command.ts';
import { ensureModel } from './setup/ensure-model.ts';

const USAGE =
  'usage: bun src/provision/setup.ts [--model NAME] [--scope all|tokenizer] [--models-dir FOLDER]';

function say(line: string): void {
  process.stderr.write(`setup: ${line}\n`);
}

function readArguments() {
  const { values } = parseArgs({
    options: {
      model: { type: 'string', default: 'multilingual-e5-small' },
      scope: { type: 'string', default: 'all' },
      'models-dir': { type: 'string', default: 'models' },
    },
  });
  const { model, scope } = values;
  if (scope !== 'all' && scope !== 'tokenizer') throw new Error(`unknown scope "${scope}"`);
  return { name: model, scope, modelsDir: values['models-dir'] } as const;
}

/**
 * The export does all that a hub's model needs: download, verification, graphs. It tells of its own
 * progress.
 */
async function exportGraphs(model: { modelsDir: string; name: string }): Promise<void> {
  const script = join(import.meta.dir, 'export.ts');
  const flags = ['--graph-only', '--model', model.name, '--models-dir', model.modelsDir];
  if ((await runVisibly([process.execPath, script, ...flags], { stdout: 1 })) === 0) return;
  throw new ProvisionError(`the files of ${model.name} could not be had: the line above says why.`);
}

/** Imported when it is wanted: a tokenizer is set up without any dependency installed. */
const importWriter = () => import('./mapped/write-mapped-copy.ts');

function adaptToMachine(model: { manifest: ModelManifest; folder: string }) {
  return ensureMappedCopy({ ...model, importWriter, log: say });
}

/** Done once here, so that no start of the server has to. */
async function compileTokenizer(model: { modelsDir: string; name: string }): Promise<void> {
  const write = (line: string): void => {
    const { because, reason } = JSON.parse(line);
    say(`tokenizer ${reason ? `goes through transformers.js: ${reason}` : `compiled: ${because}`}`);
  };
  const log = createLog({ level: 'info', write });
  await openTokenizer({ modelsDir: model.modelsDir, modelId: model.name, log });
}

async function main(): Promise<number> {
  let options: ReturnType<typeof readArguments>;
  try {
    options = readArguments();
  } catch (error) {
    say(`${(error as Error).message}. ${USAGE}`);
    return 2;
  }
  const startMs = systemClock.now();
  try {
    await ensureModel({ ...options, log: say, exportGraphs, adaptToMachine });
    await compileTokenizer(options);
  } catch (error) {
    const isExpected =
      error instanceof ProvisionError ||
      error instanceof ModelFileError ||
      error instanceof ManifestError;
    say(isExpected ? error.message : `a fault of the set-up itself: ${Bun.inspect(error)}`);
    return 1;
  }
  const seconds = ((systemClock.now() - startMs) / 1000).toFixed(1);
  const what = options.scope === 'all' ? 'model' : 'tokenizer of';
  say(`${what} ${options.name} is ready and verified (${seconds} s)`);
  return 0;
}

process.exitCode = await main();
