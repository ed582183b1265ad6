import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseProfiles } from '../../model/engine-profiles.ts';
import {
  type EngineUse,
  engineRecordPath,
  readEngineRecord,
  whyEngineIsStale,
} from '../../model/engine-record.ts';
import { sha256OfFile } from '../../model/files.ts';
import { loadManifest } from '../../model/manifest.ts';
import { withFileLock } from '../file-lock.ts';
import { demand, ProvisionError } from '../provision-error.ts';
import { engineConfig, writeEngineConfig } from './engine/engine-config.ts';
import { findGpu } from './engine/gpu.ts';
import type { ExportSettings } from './export-settings.ts';
import { sayWhile } from './progress.ts';
import {
  createRunner,
  type ExportTools,
  engineUse,
  type Limits,
  readLimits,
  runExport,
} from './run-export.ts';

/**
 * A folder of engines that many machines share, the pods of a fleet for instance. Each kind of GPU,
 * image and size of batches has a folder of its own below it, which is a models folder of the
 * export: engines of an upgrade and of a rollback stand side by side, and none replaces another
 * that pods still start with. Only the downloads are in common.
 *
 * Brings the engine for this GPU into a folder for Triton; builds it before where the store has
 * none. One export builds an engine, others wait for it. One that was killed is taken up where it
 * was.
 *
 * @param store.into gets the model's folder, as Triton reads it, with the record.
 * @throws ProvisionError, HubError, ModelFileError, ManifestError
 */
export async function provideEngine(
  settings: ExportSettings,
  store: { readonly folder: string; readonly into: string },
  tools: ExportTools,
): Promise<void> {
  const { clock, say } = tools;
  const shelf = await findShelf(settings, store.folder, tools);
  const reason = await whyUseless(shelf);
  if (reason === undefined) {
    say(`${shelf.plan} is for ${shelf.use.gpu}`);
  } else {
    const wait = (untilLocked: () => Promise<void>) => {
      say(`${shelf.folder} is locked: another export builds this engine`);
      return sayWhile({ clock, say, words: 'waiting for another export' }, untilLocked);
    };
    await withFileLock({ path: `${shelf.folder}.lock`, wait }, () => build(shelf, tools));
  }
  await copyEngine(shelf, store.into, say);
}

/** The place of one engine in a store. */
interface Shelf {
  /** A models folder. */
  readonly folder: string;
  readonly plan: string;
  /** Triton's name for the model. */
  readonly tritonModel: string;
  readonly use: EngineUse;
  readonly limits: Limits;
  /** Those of an export into the folder. */
  readonly settings: ExportSettings;
  /** What an export reads, in the folder that the caller named. */
  readonly modelsDir: string;
}

async function findShelf(
  settings: ExportSettings,
  store: string,
  { clock, say }: ExportTools,
): Promise<Shelf> {
  const { modelsDir, device } = settings;
  const manifest = await loadManifest({ modelsDir, name: settings.model });
  const limits = await readLimits(settings, manifest);
  const { tritonModel } = limits;
  demand(tritonModel !== undefined, `${manifest.title} is served without an engine.`);
  const gpu = (await findGpu(device))?.name;
  demand(gpu !== undefined, `There is no GPU ${device} here: nvidia-smi tells of none.`);
  const runner = createRunner(settings, clock);
  await runner.check();
  await runner.prepare(say);
  const use = {
    ...engineUse({ settings, manifest, limits, gpu }),
    imageId: await runner.findImageId(),
  };
  const kind = gpu.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
  const sum = createHash('sha256')
    .update(JSON.stringify([use, settings.bfloat16]))
    .digest('hex');
  const folder = join(store, `${kind}-${sum.slice(0, 12)}`);
  const sharedDownloads = join(store, `downloads-${manifest.id}`);
  return {
    folder,
    plan: join(folder, tritonModel, '1', 'model.plan'),
    tritonModel,
    use,
    limits,
    settings: { ...settings, modelsDir: folder, model: manifest.id, sharedDownloads },
    modelsDir,
  };
}

/** Only reads: others may do the same at this moment, or build. */
async function whyUseless({ plan, use }: Shelf): Promise<string | undefined> {
  if (!existsSync(plan)) return `${plan} is not there`;
  const record = await readEngineRecord(plan);
  const reason = whyEngineIsStale(record, { ...use, bytes: Bun.file(plan).size });
  if (reason !== undefined || record === undefined) return reason;
  const isWhole = (await sha256OfFile(plan)) === record.engine.sha256;
  return isWhole ? undefined : 'its bytes are not those that its record names';
}

/** Unless another export has done so meanwhile. */
async function build(shelf: Shelf, tools: ExportTools): Promise<void> {
  const { folder, settings, tritonModel, modelsDir } = shelf;
  const reason = await whyUseless(shelf);
  if (reason === undefined) return tools.say(`${shelf.plan} was built meanwhile`);
  tools.say(`an engine for ${shelf.use.gpu} is built in ${folder}: ${reason}`);
  await mkdir(join(folder, tritonModel), { recursive: true });
  for (const path of [`${settings.model}.json`, join(tritonModel, 'config.pbtxt')]) {
    await copyFile(join(modelsDir, path), join(folder, path));
  }
  await runExport(settings, tools);
  // Three times the engine's size, and soon made again of the downloads.
  for (const graphs of ['onnx', 'half']) {
    await rm(join(folder, settings.model, graphs), { recursive: true, force: true });
  }
}

/** The configuration is written anew: an upgrade may have brought another template. */
async function copyEngine(
  { plan, tritonModel, limits }: Shelf,
  into: string,
  say: (line: string) => void,
): Promise<void> {
  const target = join(into, tritonModel);
  const profiles = parseProfiles((await readEngineRecord(plan))?.engine.profiles ?? '');
  demand(profiles !== undefined, `${engineRecordPath(plan)} names no profiles.`);
  const targetPlan = join(target, '1', 'model.plan');
  try {
    await mkdir(join(target, '1'), { recursive: true });
    await writeFile(join(target, 'config.pbtxt'), limits.template);
    await writeEngineConfig(target, engineConfig(limits.template, profiles));
    await copyFile(plan, targetPlan);
    await copyFile(engineRecordPath(plan), engineRecordPath(targetPlan));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ProvisionError(`${plan} could not be copied to ${target}: ${reason}`);
  }
  say(`${targetPlan} is a copy of it, ${(Bun.file(targetPlan).size / 1e9).toFixed(1)} GB`);
}
