import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import packageJson from '../../../package.json';
import type { Clock } from '../../base/clock.ts';
import {
  formatProfiles,
  type ProfileShape,
  parseProfiles,
  planProfiles,
} from '../../model/engine-profiles.ts';
import { type EngineUse, readEngineRecord, whyEngineIsStale } from '../../model/engine-record.ts';
import { type HubSource, loadManifest, type ModelManifest } from '../../model/manifest.ts';
import { withFileLock } from '../file-lock.ts';
import { demand } from '../provision-error.ts';
import { writeCpuGraphs } from './cpu/write-cpu-graphs.ts';
import { describePlan } from './engine/describe-plan.ts';
import { createDockerRunner } from './engine/docker.ts';
import { engineConfig, writeEngineConfig } from './engine/engine-config.ts';
import type { EngineRunner } from './engine/engine-runner.ts';
import { type FinishedSteps, openSteps } from './engine/finished-steps.ts';
import { demandRoom, engineModelOf, profileLadder } from './engine/fit-profiles.ts';
import { checkGpu, findGpu, type Gpu } from './engine/gpu.ts';
import { createInPlaceRunner } from './engine/in-place.ts';
import { makeEngine } from './engine/make-engine.ts';
import type { ExportSettings } from './export-settings.ts';
import { fetchSource, type SourceFile } from './fetch-source.ts';
import { createProgress, sayWhile } from './progress.ts';
import {
  type GraphSums,
  type WrittenGraph,
  type WrittenGraphs,
  writeGraphs,
} from './write-graphs.ts';

/** Ampere and later. */
const BFLOAT16_CAPABILITY = 8;

/** What an export needs beside its settings. */
export interface ExportTools {
  readonly clock: Clock;
  readonly say: (line: string) => void;
}

/**
 * A hub that is slow to answer or a network that comes and goes: eight tries, up to half a minute
 * apart.
 */
const DOWNLOAD = {
  attemptCountMax: 8,
  backoffMsMin: 1_000,
  backoffMsMax: 30_000,
  stallMsMax: 60_000,
};

/**
 * From published weights to an engine that has proved itself, or as far as this machine can.
 *
 * @throws ProvisionError, HubError, ModelFileError, ManifestError
 */
export async function runExport(settings: ExportSettings, tools: ExportTools): Promise<void> {
  const { clock, say } = tools;
  const manifest = await loadManifest({ modelsDir: settings.modelsDir, name: settings.model });
  const { source } = manifest;
  demand(source.kind === 'hub', `${manifest.title} does not come from a hub: ./run.sh sets it up.`);
  const limits = await readLimits(settings, manifest);
  const isForTriton = limits.tritonModel !== undefined && !settings.graphOnly;
  const runner = createRunner(settings, clock);
  const gpu = isForTriton ? await findUsableGpu(settings, runner, say) : undefined;
  if (gpu !== undefined) {
    const rungs = profileLadder(limits.profilesWanted);
    const model = engineModelOf(manifest.dimension);
    demandRoom({ model, gpu: gpu.name, freeBytes: gpu.freeBytes, rungs });
  }
  const folder = join(settings.modelsDir, manifest.id);
  const { from, image, hub } = settings;
  const files = await fetchFiles(settings, { source, folder }, tools);
  const sums = files.map(({ path, sha256 }) => [path, sha256]);
  const scope = { version: packageJson.version, gpu: gpu?.name, revision: source.revision, sums };
  const steps = await openSteps(join(folder, 'engine'), { ...scope, from, image });
  const graphs = await writeOrKeep({ manifest, files, folder }, steps, say);
  if (gpu !== undefined) await steps.addGraphs(sumsOf(graphs));
  if (gpu === undefined || limits.tritonModel === undefined) {
    await writeCpuGraphs({ manifest, exactPath: graphs.exact.path, folder, say });
    if (limits.tritonModel === undefined) return;
    const why = settings.graphOnly ? 'as asked' : 'no NVIDIA GPU here';
    say(`no engine built (${why}): run ./run.sh export on a machine with one; what lies in`);
    say(`  ${folder} by then is not downloaded again`);
    return;
  }
  const { plan } = await makeEngine({
    ...settings,
    ...limits,
    tritonModel: limits.tritonModel,
    runner,
    manifest,
    graphs,
    steps,
    gpu: gpu.name,
    freeBytes: gpu.freeBytes,
    triesBfloat16: settings.bfloat16 && hasBfloat16(gpu, say),
    model: engineModelOf(manifest.dimension, Bun.file(graphs.half.path.concat('_data')).size),
    clock,
    say,
    source: {
      from: from ?? hub,
      repository: source.repository,
      revision: source.revision,
      files: Object.fromEntries(sums),
    },
  });
  say(`${plan} is built, verified and in place`);
}

/** The published files, with progress for all to see. */
async function fetchFiles(
  { hub, from, sharedDownloads }: ExportSettings,
  options: { source: HubSource; folder: string },
  { clock, say }: ExportTools,
): Promise<SourceFile[]> {
  const folder = sharedDownloads ?? join(options.folder, 'downloads');
  const { onBytes: onProgress, onRetry, onFile } = createProgress({ clock, say });
  const settings = { ...DOWNLOAD, clock, onProgress, onRetry };
  const fetch = () => fetchSource({ ...options, hub, from, folder, settings, onFile });
  if (sharedDownloads === undefined) return await fetch();
  const words = "waiting for another export's download";
  const wait = (untilLocked: () => Promise<void>) => {
    say(words);
    return sayWhile({ clock, say, words }, untilLocked);
  };
  return await withFileLock({ path: `${folder}.lock`, wait }, fetch);
}

/** Where the engine is built and proved. */
export function createRunner({ here, ...settings }: ExportSettings, clock: Clock): EngineRunner {
  return here ? createInPlaceRunner({ ...settings, clock }) : createDockerRunner(settings);
}

/** The graphs, unless an export that was interrupted has left them. */
async function writeOrKeep(
  options: Parameters<typeof writeGraphs>[0],
  steps: FinishedSteps,
  say: (line: string) => void,
): Promise<WrittenGraphs> {
  say(steps.graphs === undefined ? 'writing the graphs' : 'looking at the graphs of before');
  const graphs = await writeGraphs({ ...options, known: steps.graphs });
  const wrote = graphs.isKept ? 'kept' : 'wrote';
  say(`${wrote} ${graphs.exact.path} and ${graphs.half.path}: ${graphs.outputs.join(', ')}`);
  return graphs;
}

function sumsOf({ exact, half }: WrittenGraphs): GraphSums {
  const sums = ({ model, data }: WrittenGraph) => ({ model, data });
  return { exact: sums(exact), half: sums(half) };
}

/**
 * Says what an export would build here, and what it would take, without building.
 *
 * @throws ProvisionError, ManifestError
 */
export async function planExport(settings: ExportSettings): Promise<string> {
  const manifest = await loadManifest({ modelsDir: settings.modelsDir, name: settings.model });
  const { tritonModel, profilesWanted: wanted } = await readLimits(settings, manifest);
  demand(tritonModel !== undefined, `${manifest.title} is served without an engine.`);
  const half = Bun.file(join(settings.modelsDir, manifest.id, 'half', 'model.onnx_data'));
  const weightBytes = (await half.exists()) ? half.size : undefined;
  const model = engineModelOf(manifest.dimension, weightBytes);
  const freeBytes = settings.gpuMemory ?? (await findGpu(settings.device))?.freeBytes;
  return describePlan({ model, wanted, freeBytes });
}

/**
 * Says why the engine that stands cannot serve here; undefined when it can.
 *
 * @throws ManifestError
 */
export async function checkEngine(
  settings: ExportSettings,
  { clock }: ExportTools,
): Promise<string | undefined> {
  const manifest = await loadManifest({ modelsDir: settings.modelsDir, name: settings.model });
  const limits = await readLimits(settings, manifest);
  const modelFolder = join(settings.modelsDir, limits.tritonModel ?? '');
  const plan = join(modelFolder, '1', 'model.plan');
  if (!existsSync(plan)) return `${plan} is not there`;
  const gpu = (await findGpu(settings.device))?.name;
  if (gpu === undefined) return `there is no GPU ${settings.device} to run it`;
  const imageId = await createRunner(settings, clock).findImageId();
  const record = await readEngineRecord(plan);
  const use = { ...engineUse({ settings, manifest, limits, gpu }), imageId };
  const reason = whyEngineIsStale(record, { ...use, bytes: Bun.file(plan).size });
  const profiles = parseProfiles(record?.engine.profiles ?? '');
  // An upgrade may bring another config.pbtxt for the same engine.
  if (reason === undefined && profiles !== undefined) {
    await writeEngineConfig(modelFolder, engineConfig(limits.template, profiles));
  }
  return reason;
}

/** What an engine must be for, to be the one that an export with these settings would build. */
export function engineUse(options: {
  readonly settings: ExportSettings;
  readonly manifest: ModelManifest;
  readonly limits: Limits;
  readonly gpu: string;
}): EngineUse {
  const { settings, manifest, limits, gpu } = options;
  const { id: model, source } = manifest;
  return {
    model,
    revision: source.kind === 'hub' ? source.revision : undefined,
    gpu,
    image: settings.image,
    profilesWanted: formatProfiles(limits.profilesWanted),
  };
}

/** What will not do is told before gigabytes are downloaded for it. */
async function findUsableGpu(
  settings: ExportSettings,
  runner: EngineRunner,
  say: (line: string) => void,
): Promise<Gpu | undefined> {
  const gpu = await findGpu(settings.device);
  if (gpu === undefined) return undefined;
  const warning = checkGpu(gpu, settings.image);
  if (warning !== undefined) say(`warning: ${warning}`);
  await runner.check();
  return gpu;
}

/** Turing computes it by other means, slower than float32. */
function hasBfloat16({ name, capability }: Gpu, say: (line: string) => void): boolean {
  if (capability !== undefined && capability >= BFLOAT16_CAPABILITY) return true;
  say(`${name} has no bfloat16: only float16 is built`);
  return false;
}

/** How an engine is served, and for what sizes it is built. */
export interface Limits {
  readonly tritonModel: string | undefined;
  /** The text of config.pbtxt. */
  readonly template: string;
  readonly tokensMax: number;
  readonly profilesWanted: readonly ProfileShape[];
}

/**
 * The limits stand where the server and Triton read them, so that nothing can disagree with them.
 */
export async function readLimits(
  settings: ExportSettings,
  manifest: ModelManifest,
): Promise<Limits> {
  const { tritonModel, tokenCountMax: tokensMax } = manifest;
  if (tritonModel === undefined) {
    return { tritonModel, template: '', tokensMax, profilesWanted: [] };
  }
  const path = join(settings.modelsDir, tritonModel, 'config.pbtxt');
  const template = await readFile(path, 'utf8').catch(() => undefined);
  demand(template !== undefined, `${path} is not there: it says how Triton serves the engine.`);
  const batchTextsMax = Number(/^max_batch_size:\s*(\d+)/m.exec(template)?.[1] ?? 0);
  demand(batchTextsMax >= 1, `${path} must have a max_batch_size of at least 1.`);
  const { batchTokensMax } = settings;
  const profilesWanted = planProfiles({ batchTokensMax, tokensMax, batchTextsMax });
  return { tritonModel, template, tokensMax, profilesWanted };
}
