import { existsSync } from 'node:fs';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { describeError } from '../../base/log.ts';
import { ROWS_DIMENSION, ROWS_INPUT } from '../../model/int8-record.ts';
import { type Head, headSet, valuesPerText } from '../../vectors/output.ts';
import {
  checkedText,
  checkSha256,
  type FileRecord,
  faultOfRows,
  readRecord,
} from './file-check.ts';
import {
  type InferenceInit,
  type InferenceOutputs,
  type InferenceReady,
  type InferenceRequest,
  joinTokenIds,
} from './inference-protocol.ts';
import { disableRuntimeTelemetry } from './runtime-telemetry.ts';

/**
 * Runs a model on the thread that calls it: `run` blocks that thread for as long as it computes.
 */
export interface InferenceEngine {
  readonly ready: InferenceReady;
  /** @returns one array for each head of the request, owned by the caller. */
  run(request: InferenceRequest): Promise<InferenceOutputs>;
  /**
   * Loads the model a second time, over all cores, for texts that have the machine to themselves.
   * Both sessions give the same bits.
   */
  widen(): Promise<void>;
  /** Gives the model's memory back. */
  release(): Promise<void>;
}

/**
 * Loads a model and proves that it computes what it did at its set-up: its mapped copy where there
 * is one, and the plain file where that fails. `ready` then says why.
 *
 * @throws Error with a sentence for the operator, when the plain file fails too.
 */
export async function openEngine(init: InferenceInit): Promise<InferenceEngine> {
  const { mappedPath, modelPath, modelSha256 } = init;
  let refusal: string | undefined;
  if (mappedPath !== undefined) {
    try {
      const record = readRecord(mappedPath);
      return await openProven({ ...init, modelPath: mappedPath }, record);
    } catch (error) {
      refusal = describeError(error);
    }
  }
  if (modelSha256 !== undefined && existsSync(modelPath)) checkSha256(modelPath, modelSha256);
  const engine = await openProven(init);
  if (refusal === undefined) return engine;
  return { ...engine, ready: { ...engine.ready, mappedRefusal: refusal } };
}

async function openProven(init: InferenceInit, record?: FileRecord): Promise<InferenceEngine> {
  const engine = await loadInferenceEngine(init);
  try {
    await proveEngine(engine, init);
    const fault = record && faultOfRows(await engine.run(checkedText(init.outputs)), record.rows);
    if (fault !== undefined) throw new Error(fault);
    return engine;
  } catch (error) {
    await engine.release();
    throw error;
  }
}

/**
 * Runs `<s> </s>` through a model that was just loaded: what loads need not compute, and only a
 * real inference shows it.
 *
 * @throws Error with a sentence for the operator.
 */
async function proveEngine(engine: InferenceEngine, init: InferenceInit): Promise<void> {
  const size = { dimension: init.dimension, paddedLength: 2 };
  const heads = headSet(Object.keys(init.outputs) as Head[]);
  const outputs = await engine.run({
    messageId: 0,
    ...joinTokenIds([[0, 2]]),
    heads,
    isAlone: false,
  });
  for (const head of heads) {
    const values = outputs[head];
    const count = valuesPerText(head, size);
    if (values?.length !== count) {
      throw new Error(`the output ${head} has ${values?.length} values for a text, not ${count}`);
    }
    if (!values.every(Number.isFinite)) throw new Error(`the output ${head} is not finite`);
  }
}

/**
 * Loads a graph with an input `input_ids`, int64 `[batch, sequence]`, perhaps an `attention_mask`
 * of the same form, and float32 outputs of the names that the manifest gives.
 */
export async function loadInferenceEngine(init: InferenceInit): Promise<InferenceEngine> {
  const { modelPath, outputs } = init;
  if (!existsSync(modelPath)) throw new Error(`${modelPath} is missing; run ./run.sh to fetch it`);
  const session = await openSession(modelPath, init.threadCount);
  let wide: InferenceSession | undefined;
  const missing = Object.values(outputs).find((name) => !session.outputNames.includes(name));
  if (missing !== undefined) {
    throw new Error(
      `${modelPath} has no output ${missing}, only ${session.outputNames.join(', ')}`,
    );
  }

  function nameOf(head: Head): string {
    const name = outputs[head];
    if (name === undefined) throw new Error(`The manifest names no output for the head ${head}.`);
    return name;
  }

  const mask = session.inputMetadata.find(({ name }) => name === ROWS_INPUT);
  // A dimension of its own: the mask may be shorter than the text.
  const takesRows = mask?.isTensor === true && mask.shape.at(-1) === ROWS_DIMENSION;

  async function runText(ids: BigInt64Array, request: InferenceRequest): Promise<InferenceOutputs> {
    const shape = [1, ids.length];
    const feeds: Record<string, Tensor> = { input_ids: new Tensor('int64', ids, shape) };
    if (mask !== undefined) {
      const isDense = request.heads.every((head) => head === 'dense');
      const count = takesRows && isDense ? Math.min(DENSE_ROWS, ids.length) : ids.length;
      const ones = new BigInt64Array(count).fill(1n);
      feeds[ROWS_INPUT] = new Tensor('int64', ones, [1, count]);
    }
    const chosen = request.isAlone && wide !== undefined ? wide : session;
    const results = await chosen.run(feeds, request.heads.map(nameOf));
    const arrays: { -readonly [H in Head]?: Float32Array<ArrayBuffer> } = {};
    for (const head of request.heads) {
      const { type, data } = results[nameOf(head)];
      if (type !== 'float32') throw new Error(`Output ${nameOf(head)} is ${type}, not float32.`);
      // The one copy: what ONNX Runtime hands out is its own memory and cannot be transferred.
      arrays[head] = new Float32Array(data as Float32Array);
    }
    return arrays;
  }

  /** One text after the other, each without padding: none has neighbours that could change it. */
  async function run(request: InferenceRequest): Promise<InferenceOutputs> {
    const ids = new BigInt64Array(request.tokenIds.buffer);
    const parts: InferenceOutputs[] = [];
    let start = 0;
    for (const count of request.tokenCounts) {
      parts.push(await runText(ids.subarray(start, start + count), request));
      start += count;
    }
    return parts.length === 1 ? parts[0] : joinOutputs(request, parts, init.dimension);
  }

  const ready = { outputNames: session.outputNames };
  return {
    ready,
    run,
    async widen() {
      if (init.wideThreadCount === 0) return;
      wide = await openSession(modelPath, init.wideThreadCount);
    },
    async release() {
      await session.release();
      await wide?.release();
    },
  };
}

/**
 * Tokens that the last layer computes for the dense head, which reads the first. One alone would go
 * through other kernels than one of many, and differ in the last bits.
 */
const DENSE_ROWS = 2;

/** @param more options beyond those that every session has. */
export function openSession(
  modelPath: string,
  threadCount: number,
  more: InferenceSession.SessionOptions = {},
): Promise<InferenceSession> {
  disableRuntimeTelemetry();
  return InferenceSession.create(modelPath, {
    intraOpNumThreads: threadCount,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    logSeverityLevel: 3,
    ...more,
  });
}

/** Puts the outputs of texts that ran alone where a padded batch would have them. */
function joinOutputs(
  request: InferenceRequest,
  parts: readonly InferenceOutputs[],
  dimension: number,
): InferenceOutputs {
  const paddedLength = Math.max(...request.tokenCounts);
  const joined: { -readonly [H in Head]?: Float32Array<ArrayBuffer> } = {};
  for (const head of request.heads) {
    const each = valuesPerText(head, { dimension, paddedLength });
    const all = new Float32Array(each * parts.length);
    for (const [index, part] of parts.entries()) all.set(part[head] ?? [], index * each);
    joined[head] = all;
  }
  return joined;
}
