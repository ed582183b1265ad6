import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { disableRuntimeTelemetry } from '../../../backend/local/runtime-telemetry.ts';
import { ELEMENT, type GraphValue, type OnnxModel } from '../../onnx/model.ts';
import { writeModel } from '../../onnx/write-model.ts';
import { demand } from '../../provision-error.ts';
import { prune, withGraph } from '../graph/graph-edit.ts';

/** Token states of one text, row major, with their shape `[1, tokenCount, size]`. */
export interface States {
  readonly dims: readonly number[];
  readonly values: Float32Array;
}

/** What a part of a model is asked: its inputs by name, float32 or token ids. */
export type Feeds = Readonly<Record<string, States | BigInt64Array>>;

/** A part of a model that is loaded. */
export interface LoadedPart {
  run(feeds: Feeds, outputs: readonly string[]): Promise<Record<string, States>>;
  close(): Promise<void>;
}

/**
 * The part of a model between some of its tensors, all of them float32, as a model of its own.
 *
 * @param between.from given from outside; together with the model's own inputs.
 */
export function partOf(
  model: OnnxModel,
  between: { readonly from: readonly string[]; readonly to: readonly string[] },
): OnnxModel {
  const value = (name: string): GraphValue => ({ name, elementType: ELEMENT.float, dims: null });
  const from = new Set(between.from);
  const isInside = ({ outputs }: { outputs: readonly string[] }) =>
    !outputs.some((output) => from.has(output));
  const part = prune(
    withGraph(model, {
      nodes: model.graph.nodes.filter(isInside),
      outputs: between.to.map(value),
    }),
  );
  const read = new Set(part.graph.nodes.flatMap((node) => node.inputs));
  const inputs = [...between.from.map(value), ...model.graph.inputs];
  return withGraph(part, { inputs: inputs.filter(({ name }) => read.has(name)) });
}

/** Loads a part. Its files are written into `folder` for as long as that takes. */
export async function loadPart(part: OnnxModel, folder: string): Promise<LoadedPart> {
  const own = await mkdtemp(join(folder, 'part-'));
  try {
    const path = join(own, 'model.onnx');
    writeModel(part, path);
    return await loadPartFile(path);
  } finally {
    await rm(own, { recursive: true, force: true });
  }
}

/** Loads a part that lies in a file. @param extra settings of the runtime, by their names. */
export async function loadPartFile(
  path: string,
  extra: Record<string, unknown> = {},
): Promise<LoadedPart> {
  disableRuntimeTelemetry();
  const session = await InferenceSession.create(path, {
    executionProviders: ['cpu'],
    // One text is much longer than the others: an arena would hold on to its largest moment.
    enableCpuMemArena: false,
    enableMemPattern: false,
    logSeverityLevel: 3,
    extra,
  });
  return {
    async run(feeds, outputs) {
      const inputs = session.inputNames.map((name) => [name, tensorOf(feeds[name], name)]);
      const answer = await session.run(Object.fromEntries(inputs), [...outputs]);
      const states = outputs.map((name) => {
        const { data, dims } = answer[name];
        demand(data instanceof Float32Array, `${name} is not float32.`);
        return [name, { dims, values: data }] as const;
      });
      return Object.fromEntries(states);
    },
    close: () => session.release(),
  };
}

function tensorOf(feed: States | BigInt64Array | undefined, name: string): Tensor {
  demand(feed !== undefined, `A part of the graph reads ${name}, which is not known there.`);
  if (feed instanceof BigInt64Array) return new Tensor('int64', feed, [1, feed.length]);
  return new Tensor('float32', feed.values, feed.dims);
}
