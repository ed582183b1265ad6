import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Clock, sleep } from '../../base/clock.ts';
import { type AnswerPair, type Fidelity, judgeFidelity } from '../../model/fidelity.ts';
import type { ModelRunner } from '../onnx/onnx-session.ts';
import { ProvisionError } from '../provision-error.ts';
import { runCommand } from '../run-command.ts';
import {
  adviceFor,
  dockerFailure,
  dockerIsRunning,
  dockerLogs,
  dockerPort,
  dockerRemove,
  dockerTriton,
  GATE_CONTAINER,
  parseDockerPort,
  tritonFailure,
} from './engine/docker.ts';
import gateTexts from './gate-texts.json';

/**
 * Lengths of the texts that are made of the others: engines choose other kernels for long inputs.
 */
const LONG_TOKEN_COUNTS = [300, 1_024];
/** How many texts run together, padded: an engine must not let a text's neighbours change it. */
const BATCH_TEXT_COUNT = 8;
const [FIRST_ID, LAST_ID] = [0, 2];

/**
 * Token ids of the texts that the gate compares: search queries and passages in several languages,
 * and two long ones.
 *
 * @param tokensMax longer texts are left out.
 */
export function gateTextIds(tokensMax: number): number[][] {
  const texts: number[][] = gateTexts.texts.map((text) => text.ids);
  const words = texts.flatMap((ids) => ids.slice(1, -1));
  const long = LONG_TOKEN_COUNTS.map((count) => [
    FIRST_ID,
    ...Array.from({ length: count - 2 }, (_, index) => words[index % words.length] ?? LAST_ID),
    LAST_ID,
  ]);
  return [...texts, ...long].filter((ids) => ids.length <= tokensMax);
}

/**
 * The fidelity gate: runs every text through both, one by one and then some of them padded
 * together, and compares each output.
 *
 * @param options.reference the model as it was exported, in float32.
 * @param options.candidate what is to serve.
 * @param options.outputs names of the outputs; each must be there.
 */
export async function runGate(options: {
  readonly reference: ModelRunner;
  readonly candidate: ModelRunner;
  readonly outputs: readonly string[];
  readonly tokensMax: number;
  readonly onText?: (done: number, of: number) => void;
}): Promise<Fidelity> {
  const { reference, candidate, outputs } = options;
  const texts = gateTextIds(options.tokensMax);
  const pairs: Record<string, AnswerPair[]> = {};
  const batches = [...texts.map((ids) => [ids]), texts.slice(0, BATCH_TEXT_COUNT)];
  for (const [index, batch] of batches.entries()) {
    options.onText?.(index, batches.length);
    const expected = await reference.run(batch);
    const found = await candidate.run(batch);
    for (const output of outputs) {
      const answer = expected.get(output);
      pairs[output] ??= [];
      if (answer) pairs[output].push({ expected: answer, found: found.get(output) });
    }
  }
  return judgeFidelity(pairs);
}

/** Reading a plan of more than a gigabyte from a cold disk, and the context's memory. */
const READY_MS_MAX = 300_000;
const PROBE_MS = 250;

/** A Triton that serves a candidate and nothing else. */
export interface CandidateTriton {
  readonly url: string;
  stop(): Promise<void>;
}

/**
 * Serves a model repository with the image that will serve it later, on loopback, until it is
 * stopped. The end of its log stays in `triton-gate.log` of the folder.
 *
 * @throws ProvisionError with the line of Triton's log that matters when the model does not become
 * ready.
 */
export async function serveCandidate(options: {
  readonly image: string;
  readonly device: string;
  readonly repository: string;
  readonly model: string;
  readonly logFolder: string;
  readonly clock: Clock;
}): Promise<CandidateTriton> {
  const { model, clock } = options;
  const docker = (line: readonly string[]) => runCommand(['docker', ...line]);
  const logPath = join(options.logFolder, 'triton-gate.log');
  let log = '';
  const stop = async () => {
    log = (await docker(dockerLogs(GATE_CONTAINER))).output;
    await docker(dockerRemove(GATE_CONTAINER));
    await writeFile(logPath, log);
  };
  const line = dockerTriton({ ...options, repository: resolve(options.repository) });
  const started = await docker(line);
  if (started.exitCode !== 0) {
    await stop();
    const { output } = started;
    throw new ProvisionError(
      `Docker could not start Triton: ${dockerFailure(output)}${adviceFor(output)}`,
    );
  }
  const url = parseDockerPort((await docker(dockerPort(GATE_CONTAINER))).output);
  const deadline = clock.now() + READY_MS_MAX;
  while (url === undefined || !(await isReady(`${url}/v2/models/${model}/ready`))) {
    const state = await docker(dockerIsRunning(GATE_CONTAINER));
    // A container that has ended has no port either.
    if (url === undefined || state.output.trim() !== 'true' || clock.now() > deadline) {
      await stop();
      throw new ProvisionError(
        `Triton does not serve the engine: ${tritonFailure(log)} (more: ${logPath})${adviceFor(log)}`,
      );
    }
    await sleep(clock, PROBE_MS);
  }
  return { url, stop };
}

async function isReady(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(5_000) });
    await response.arrayBuffer();
    return response.ok;
  } catch {
    return false;
  }
}
