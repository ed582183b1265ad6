/**
 * From BGE-M3's published weights to a verified TensorRT engine: `./run.sh export --help`.
 *
 * Exit status 0 when all that this machine can do is done, 1 with one line on what failed, 2 when
 * called wrongly.
 */
import { foregroundClock as clock } from '../base/clock.ts';
import { print } from '../base/print.ts';
import { ModelFileError } from '../model/files.ts';
import { ManifestError } from '../model/manifest.ts';
import { provideEngine } from './export/engine-store.ts';
import { type ExportSettings, parseExportSettings, USAGE } from './export/export-settings.ts';
import { checkEngine, planExport, runExport } from './export/run-export.ts';
import { HubError } from './hub/hub-request.ts';
import { ProvisionError } from './provision-error.ts';

function say(line: string): void {
  process.stderr.write(`export: ${line}\n`);
}

async function main(): Promise<number> {
  if (process.argv.includes('--help') || process.argv.includes('-h')) {
    await print(`${USAGE}\n`);
    return 0;
  }
  let settings: ExportSettings;
  try {
    settings = parseExportSettings(process.argv.slice(2), process.env);
  } catch (error) {
    say(`${error instanceof Error ? error.message : error}\n${USAGE}`);
    return 2;
  }
  try {
    if (settings.plan) {
      await print(`${await planExport(settings)}\n`);
      return 0;
    }
    if (settings.check) {
      const reason = await checkEngine(settings, { clock, say });
      say(reason === undefined ? 'the engine is current' : `the engine is not current: ${reason}`);
      return reason === undefined ? 0 : 1;
    }
    if (settings.store === undefined) await runExport(settings, { clock, say });
    else await provideEngine(settings, settings.store, { clock, say });
    return 0;
  } catch (error) {
    const isExpected =
      error instanceof ProvisionError ||
      error instanceof HubError ||
      error instanceof ModelFileError ||
      error instanceof ManifestError;
    say(isExpected ? error.message : `a fault of the export itself: ${Bun.inspect(error)}`);
    return 1;
  }
}

process.exitCode = await main();
