import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../../base/clock.ts';
import { freeMemoryBytes } from '../../../base/container-limits.ts';
import { formatProfiles, type ProfileShape } from '../../../model/engine-profiles.ts';
import {
  type EngineRecord,
  encodeSelfCheckRow,
  engineRecordPath,
  RECORD_FORMAT,
} from '../../../model/engine-record.ts';
import type { Fidelity } from '../../../model/fidelity.ts';
import { sha256OfFile, writeFileAtomic } from '../../../model/files.ts';
import type { ModelManifest } from '../../../model/manifest.ts';
import { createOnnxSession, type ModelRunner } from '../../onnx/onnx-session.ts';
import { demand, ProvisionError } from '../../provision-error.ts';
import type { AttentionPrecision } from '../graph/attention.ts';
import { sayWhile } from '../progress.ts';
import {
  createTritonSession,
  gateTextIds,
  referenceTokensMax,
  runGate,
  serveCandidate,
} from '../run-gate.ts';
import type { WrittenGraph, WrittenGraphs } from '../write-graphs.ts';
import { askTrtexec, type BuiltEngine, buildEngine, type TrtexecImage } from './build-engine.ts';
import { engineConfig, writeEngineConfig } from './engine-config.ts';
import { type EngineRunner, withRunner } from './engine-runner.ts';
import { EngineTooLargeError } from './failures.ts';
import type { BuiltStep, FinishedSteps, Verdict } from './finished-steps.ts';
import {
  demandRoom,
  describeFit,
  type EngineModel,
  freeWords,
  noRoom,
  profileLadder,
  reckonMemory,
} from './fit-profiles.ts';
import { attentionsFor, describeAttention } from './layer-info.ts';
import { openRefusals } from './refusals.ts';

/** Everything that making an engine needs. */
export interface EngineJob {
  readonly manifest: ModelManifest;
  readonly source: EngineRecord['source'];
  readonly graphs: WrittenGraphs;
  readonly steps: FinishedSteps;
  readonly modelsDir: string;
  /** Triton's name for the model: the folder that has config.pbtxt. */
  readonly tritonModel: string;
  readonly image: string;
  readonly runner: EngineRunner;
  /** The name of the GPU. */
  readonly gpu: string;
  readonly tokensMax: number;
  /** The largest shapes of the profiles that are asked for. */
  readonly profilesWanted: readonly ProfileShape[];
  readonly model: EngineModel;
  /** Memory of the GPU that is free; undefined when nobody knows. */
  readonly freeBytes: number | undefined;
  /** Builds it in bfloat16, too, and takes the one that is nearer to its model. */
  readonly triesBfloat16: boolean;
  readonly clock: Clock;
  readonly say: (line: string) => void;
}

/**
 * Builds an engine, serves it by itself, holds it against the exported model, and only then puts it
 * where Triton looks, with a record beside it. A refused engine leaves nothing but its log and the
 * verdict; what an interrupted export had finished is not done again.
 *
 * @returns the plan's path and the verdict.
 * @throws ProvisionError with the figures when the engine is refused.
 */
export async function makeEngine(job: EngineJob): Promise<{ plan: string; gate: Fidelity }> {
  const cleanUp = () => job.steps.tidy();
  try {
    return await withRunner({ runner: job.runner, work: () => makeExact(job), cleanUp });
  } finally {
    await cleanUp();
  }
}

/** What an engine is built from and with. */
interface EngineParts extends TrtexecImage {
  readonly job: EngineJob;
  readonly repository: string;
  readonly half: WrittenGraph;
  readonly attention: AttentionPrecision;
}

/** An engine that answers other vectors than its model: another precision may do. */
class EngineRefusedError extends ProvisionError {}

/** An engine that has passed the gate and is not in its place yet. */
interface Candidate {
  readonly plan: string;
  readonly config: string;
  readonly record: EngineRecord;
}

/** Tries the precisions of attention that this TensorRT may fuse; the gate chooses. */
async function makeExact(job: EngineJob): Promise<{ plan: string; gate: Fidelity }> {
  const { say, graphs } = job;
  const asked = await askTrtexec({ ...job, cacheFolder: cacheFolderOf(job) });
  let { half } = graphs;
  const make = async (attention: AttentionPrecision): Promise<Candidate> => {
    if (half.attention !== attention) {
      say(`writing the graph with attention in ${attention}`);
      half = await graphs.writeHalf(attention);
    }
    const repository = job.steps.candidateFolder(attention);
    return await makeLargest({ ...asked, job, repository, half, attention });
  };
  let refusal: EngineRefusedError | undefined;
  for (const attention of attentionsFor(asked.trtexec.version)) {
    try {
      const found = await make(attention);
      return await install(job, job.triesBfloat16 ? await nearer(job, found, make) : found);
    } catch (error) {
      if (!(error instanceof EngineRefusedError)) throw error;
      refusal = error;
      say(`attention in ${attention}: ${error.message}`);
    }
  }
  // The last word on each: the next export builds them anew.
  for (const attention of attentionsFor(asked.trtexec.version)) await job.steps.forget(attention);
  throw refusal ?? new ProvisionError('No precision of attention was tried.');
}

/** The one of a candidate and the engine in bfloat16 whose worst head is nearer to its model. */
async function nearer(
  { say }: EngineJob,
  found: Candidate,
  make: (attention: AttentionPrecision) => Promise<Candidate>,
): Promise<Candidate> {
  const worst = ({ record }: Candidate): number =>
    Math.min(...Object.values(record.gate.heads).map(({ cosineMin }) => cosineMin));
  try {
    const other = await make('bfloat16');
    const isNearer = worst(other) > worst(found);
    const [left, right] = [worst(other).toFixed(7), worst(found).toFixed(7)];
    say(`bfloat16 is ${isNearer ? 'nearer: taken' : 'not nearer: left'} (${left}, ${right})`);
    return isNearer ? other : found;
  } catch (error) {
    // What was found before is good.
    if (!(error instanceof ProvisionError)) throw error;
    say(`bfloat16 is left: ${error.message}`);
    return found;
  }
}

/** Puts an engine where Triton looks, with its configuration and its record. */
async function install(
  { modelsDir, tritonModel, steps }: EngineJob,
  { plan: candidate, config, record }: Candidate,
): Promise<{ plan: string; gate: Fidelity }> {
  const modelFolder = join(modelsDir, tritonModel);
  const plan = join(modelFolder, '1', 'model.plan');
  await mkdir(join(modelFolder, '1'), { recursive: true });
  // The old record goes first: a crash between the two leaves a plan without a record, which is
  // built anew.
  await rm(engineRecordPath(plan), { force: true });
  await rename(candidate, plan);
  await writeEngineConfig(modelFolder, config);
  const text = `${JSON.stringify(record, null, 2)}\n`;
  await writeFileAtomic(engineRecordPath(plan), new TextEncoder().encode(text));
  await steps.close();
  return { plan, gate: record.gate };
}

/**
 * Builds the largest engine that the GPU's memory has room for: by the reckoning at first, and by
 * what TensorRT and Triton say from there on. What was too large stays known, so that the next run
 * goes on below it.
 */
async function makeLargest(parts: EngineParts): Promise<Candidate> {
  const { job, half } = parts;
  const { profilesWanted, model, gpu, say } = job;
  const refusals = await openRefusals(cacheFolderOf(job), {
    gpu,
    image: job.image,
    graph: half.model,
    freeBytes: job.freeBytes ?? Number.POSITIVE_INFINITY,
  });
  const room = { model, gpu, freeBytes: job.freeBytes, rungs: profileLadder(profilesWanted) };
  const fitting = demandRoom(room);
  say(`engine: ${describeFit(fitting)}; ${freeWords(job.freeBytes)}`);
  let refusal: EngineTooLargeError | undefined;
  for (const profiles of room.rungs.slice(room.rungs.indexOf(fitting.profiles))) {
    const name = formatProfiles(profiles);
    if (refusals.has(name)) {
      say(`${name} was too large before, with as little memory free: left out`);
      continue;
    }
    try {
      return await buildAndJudge(parts, profiles);
    } catch (error) {
      if (!(error instanceof EngineTooLargeError)) throw error;
      refusal = error;
      await refusals.add(name);
      say(`${name} is too large for ${gpu}: ${error.message}`);
    }
  }
  const forgets = `Once ${refusals.path} is deleted, everything is tried again.`;
  throw new ProvisionError(`${noRoom(room)} ${refusal?.message ?? ''} ${forgets}`);
}

function cacheFolderOf({ modelsDir, manifest }: EngineJob): string {
  return join(modelsDir, manifest.id, 'engine');
}

async function buildAndJudge(
  parts: EngineParts,
  profiles: readonly ProfileShape[],
): Promise<Candidate> {
  const { job, repository, half, attention } = parts;
  const { modelsDir, tritonModel, steps, say } = job;
  const modelFolder = join(modelsDir, tritonModel);
  const candidate = join(repository, tritonModel);
  const candidatePlan = join(candidate, '1', 'model.plan');
  const scope = [formatProfiles(profiles), parts.imageId, half.model, half.data].join(' ');
  const known = await steps.built({ attention, scope, plan: candidatePlan });
  if (known === undefined) await rm(repository, { recursive: true, force: true });
  else say('the engine was built before the export was interrupted');
  await mkdir(join(candidate, '1'), { recursive: true });
  const template = await readFile(join(modelFolder, 'config.pbtxt'), 'utf8');
  const config = engineConfig(template, profiles);
  await writeFile(join(candidate, 'config.pbtxt'), config);
  const step = known ?? (await buildStep(parts, { scope, profiles, plan: candidatePlan }));
  const { built } = step;
  const [unfused = 0, fused = 0] = [false, true].map(
    (isFused) => reckonMemory({ model: job.model, profiles, isFused }).servingBytes,
  );
  say(describeAttention(built.attention, unfused - fused));
  const { gate, selfCheck } = step.verdict ?? (await judgeStep(parts, step));
  for (const line of describeGate(gate)) say(line);
  if (!gate.passed)
    throw new EngineRefusedError(`The engine is refused. ${gate.reasons.join(' ')}`);
  const record = await recordOf({ parts, built, profiles, gate, selfCheck, plan: candidatePlan });
  return { plan: candidatePlan, config, record };
}

/** Builds an engine, and tells so. */
async function buildStep(
  { job, half, attention, ...parts }: EngineParts,
  { scope, profiles, plan }: { scope: string; profiles: readonly ProfileShape[]; plan: string },
): Promise<BuiltStep> {
  const built = await buildEngine({
    ...job,
    ...parts,
    halfGraph: half.path,
    attention,
    plan,
    cacheFolder: cacheFolderOf(job),
    profiles,
    inputs: job.graphs.inputs,
  });
  const step = { scope, built, plan: await sha256OfFile(plan) };
  await job.steps.addBuilt(attention, step);
  return step;
}

/** Asks the gate, and tells what it said. */
async function judgeStep(
  { job, repository, attention }: EngineParts,
  step: BuiltStep,
): Promise<Verdict> {
  const { steps } = job;
  const folders = { repository, logFolder: cacheFolderOf(job) };
  const verdict = await judgeEngine(job, folders).catch(async (error) => {
    // It may be the engine itself that Triton does not load.
    await steps.forget(attention);
    throw error;
  });
  await steps.addBuilt(attention, { ...step, verdict });
  return verdict;
}

/** A line of figures for each head. */
function describeGate(gate: Fidelity): string[] {
  return Object.entries(gate.heads).map(([head, figures]) => {
    const cosine = figures.cosineMin.toFixed(7);
    const difference = figures.differenceMax.toExponential(2);
    return `gate: ${head}: least cosine ${cosine}, largest difference ${difference}`;
  });
}

async function judgeEngine(
  job: EngineJob,
  folders: { repository: string; logFolder: string },
): Promise<Verdict> {
  const { tritonModel, graphs, tokensMax, clock, say } = job;
  say('gate: loading the exported model on the CPU, and the engine in Triton');
  const reference = await createOnnxSession(graphs.exact.path);
  try {
    const triton = await sayWhile({ clock, say, words: 'loading the engine' }, () =>
      serveCandidate({ ...job, ...folders, model: tritonModel }),
    );
    try {
      // What Triton itself takes is taken by now: it may share this container's memory.
      const { dimension } = job.manifest;
      const freeBytes = freeMemoryBytes();
      const gateTokensMax = referenceTokensMax({ tokensMax, dimension, freeBytes });
      if (gateTokensMax < tokensMax) {
        say(`gate: texts over ${gateTokensMax} tokens are left out, for want of memory here`);
      }
      const candidate = createTritonSession({
        url: triton.url,
        model: tritonModel,
        outputs: graphs.outputs,
      });
      const gate = await runGate({
        reference,
        candidate,
        outputs: graphs.outputs,
        tokensMax: gateTokensMax,
        onText: (done, of) => say(`gate: ${done} of ${of}`),
      });
      return { gate, selfCheck: await selfCheckOf(reference, graphs.outputs[0]) };
    } finally {
      await triton.stop();
    }
  } finally {
    await reference.close();
  }
}

async function selfCheckOf(
  reference: ModelRunner,
  output = '',
): Promise<EngineRecord['selfCheck']> {
  const [ids] = gateTextIds(Number.MAX_SAFE_INTEGER);
  demand(ids !== undefined, 'The gate has no texts.');
  const row = (await reference.run([ids])).get(output)?.values;
  demand(row !== undefined, `The exported model has no output ${output}.`);
  return { ids, dense: encodeSelfCheckRow(row) };
}

async function recordOf(options: {
  parts: EngineParts;
  built: BuiltEngine;
  profiles: readonly ProfileShape[];
  gate: Fidelity;
  selfCheck: EngineRecord['selfCheck'];
  plan: string;
}): Promise<EngineRecord> {
  const { parts, built, profiles, gate, selfCheck, plan } = options;
  const { job, half } = parts;
  const { exact } = job.graphs;
  return {
    format: RECORD_FORMAT,
    model: job.manifest.id,
    madeAt: new Date().toISOString(),
    source: job.source,
    graphs: {
      exact: { model: exact.model, data: exact.data },
      half: { model: half.model, data: half.data },
    },
    engine: {
      ...built,
      image: job.image,
      profiles: formatProfiles(profiles),
      profilesWanted: formatProfiles(job.profilesWanted),
      bytes: Bun.file(plan).size,
      sha256: await sha256OfFile(plan),
    },
    gate,
    selfCheck,
  };
}
