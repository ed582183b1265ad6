import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Clock, sleep } from '../../base/clock.ts';
import { directFetch } from '../../base/direct-fetch.ts';
import { type AnswerPair, type Fidelity, judgeFidelity } from '../../model/fidelity.ts';
import { type ModelOutput, type ModelRunner, padBatch } from '../onnx/onnx-session.ts';
import { demand } from '../provision-error.ts';
import type { EngineRunner } from './engine/engine-runner.ts';
import { engineFailure, tritonFailure } from './engine/failures.ts';
import gateTexts from './gate-texts.json';

/**
 * Lengths of the texts that are made of the others: engines choose other kernels for long inputs,
 * and attention in float16 errs first where it sums thousands of keys.
 */
const LONG_TOKEN_COUNTS = [300, 1_024, 4_096, 8_000];
/**
 * Scores of attention that the float32 model holds on the CPU at once: before, in and after
 * softmax.
 */
const REFERENCE_SCORES = 3;
/** How many texts run together, padded: an engine must not let a text's neighbours change it. */
const BATCH_TEXT_COUNT = 8;
const [FIRST_ID, LAST_ID] = [0, 2];

/**
 * Token ids of the texts that the gate compares: search queries and passages in several languages,
 * and four long ones.
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
 * The longest text that the float32 model can run on this machine: its attention is not fused.
 *
 * @param options.freeBytes of the machine's memory.
 */
export function referenceTokensMax(options: {
  readonly tokensMax: number;
  readonly dimension: number;
  readonly freeBytes: number;
}): number {
  const headCount = Math.max(1, options.dimension / 64);
  const square = options.freeBytes / (REFERENCE_SCORES * 4 * headCount);
  return Math.min(options.tokensMax, Math.floor(Math.sqrt(Math.max(0, square))));
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
 * Serves a model repository with the Triton that will serve it later, on loopback, until it is
 * stopped. The end of its log stays in `triton-gate.log` of the folder.
 *
 * @throws ProvisionError with the line of Triton's log that matters when the model does not become
 * ready.
 */
export async function serveCandidate(options: {
  readonly runner: EngineRunner;
  readonly repository: string;
  readonly model: string;
  readonly logFolder: string;
  readonly clock: Clock;
}): Promise<CandidateTriton> {
  const { runner, repository, model, clock } = options;
  const logPath = join(options.logFolder, 'triton-gate.log');
  const triton = await runner.startTriton({ repository, model });
  let log = '';
  const stop = async () => {
    log = await triton.stop();
    await writeFile(logPath, log);
  };
  const url = await triton.findUrl();
  const deadline = clock.now() + READY_MS_MAX;
  while (url === undefined || !(await isReady(`${url}/v2/models/${model}/ready`))) {
    // One that has ended has no address either.
    if (url === undefined || !(await triton.isRunning()) || clock.now() > deadline) {
      await stop();
      throw engineFailure(
        `Triton does not serve the engine: ${tritonFailure(log)} (more: ${logPath})`,
        log,
      );
    }
    await sleep(clock, PROBE_MS);
  }
  return { url, stop };
}

async function isReady(url: string): Promise<boolean> {
  try {
    const response = await directFetch(url, { signal: AbortSignal.timeout(5_000) });
    await response.arrayBuffer();
    return response.ok;
  } catch {
    return false;
  }
}

/** A text of the gate takes milliseconds; the first one of an engine loads its kernels. */
const TIMEOUT_MS = 120_000;

interface ReplyOutput {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly parameters?: { readonly binary_data_size?: number };
}

/**
 * Runs texts through a model that Triton serves. One request at a time and no retry: what fails
 * here should be seen.
 *
 * @param options.url Triton's HTTP address.
 * @param options.outputs the outputs to ask for.
 */
export function createTritonSession(options: {
  readonly url: string;
  readonly model: string;
  readonly outputs: readonly string[];
}): ModelRunner {
  const address = `${options.url}/v2/models/${options.model}/infer`;
  return {
    async run(texts, tokenCount) {
      const { ids, mask, dims } = padBatch(texts, tokenCount);
      const input = (name: string, values: BigInt64Array) => ({
        name,
        shape: dims,
        datatype: 'INT64',
        parameters: { binary_data_size: values.byteLength },
      });
      const head = new TextEncoder().encode(
        JSON.stringify({
          inputs: [input('input_ids', ids), input('attention_mask', mask)],
          outputs: options.outputs.map((name) => ({ name, parameters: { binary_data: true } })),
        }),
      );
      const response = await directFetch(address, {
        method: 'POST',
        headers: {
          'inference-header-content-length': String(head.length),
          'content-type': 'application/octet-stream',
          'accept-encoding': 'identity',
        },
        body: new Blob([head, ids, mask]),
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      const bytes = new Uint8Array(await response.arrayBuffer());
      const words = () => new TextDecoder().decode(bytes.subarray(0, 500));
      demand(response.ok, `${address} answered ${response.status}: ${words()}`);
      const headLength = Number(response.headers.get('inference-header-content-length'));
      demand(headLength > 0, `${address} answered without binary outputs: ${words()}`);
      return decode(bytes, headLength);
    },
    close: async () => {},
  };
}

function decode(bytes: Uint8Array, headLength: number): Map<string, ModelOutput> {
  const head: { outputs: ReplyOutput[] } = JSON.parse(
    new TextDecoder().decode(bytes.subarray(0, headLength)),
  );
  const outputs = new Map<string, ModelOutput>();
  let at = headLength;
  for (const { name, datatype, shape, parameters } of head.outputs) {
    const size = parameters?.binary_data_size ?? 0;
    demand(datatype === 'FP32', `Output ${name} is ${datatype}, expected FP32.`);
    const count = shape.reduce((product, dim) => product * dim, 1);
    demand(size === count * 4, `Output ${name} has ${size} bytes for the shape [${shape}].`);
    demand(at + size <= bytes.length, `Output ${name} is cut short.`);
    outputs.set(name, { dims: shape, values: new Float32Array(bytes.slice(at, at + size).buffer) });
    at += size;
  }
  return outputs;
}
