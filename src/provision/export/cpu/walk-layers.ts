import { rm } from 'node:fs/promises';
import type { OnnxModel } from '../../onnx/model.ts';
import { writeGraphOver } from '../../onnx/write-model.ts';
import { demand } from '../../provision-error.ts';
import { wiringOf } from '../graph/graph-edit.ts';
import {
  type Feeds,
  type LoadedPart,
  loadPart,
  loadPartFile,
  partOf,
  type States,
} from './model-part.ts';
import { type Divisors, linearsOf, quantizeForCpu } from './quantize-for-cpu.ts';
import { noteMagnitudes, productInputs, smoothLayer } from './smooth-layer.ts';

/** What the heads answer to one text, by the name of the output. */
export type HeadAnswers = Readonly<Record<string, States>>;

/** What a walk found. */
export interface LayerWalk {
  readonly divisors: Divisors;
  /** The exponent that was chosen for each layer. */
  readonly exponents: readonly number[];
  /** Of each text, by float32 and by int8. */
  readonly answers: readonly { readonly float32: HeadAnswers; readonly int8: HeadAnswers }[];
}

/** Longer texts are compared, but not looked at when divisors are chosen: they are large. */
const SAMPLE_TOKENS_MAX = 1_024;

/**
 * Takes texts through a model layer by layer, in float32 and in int8 side by side, and chooses for
 * each layer how it is quantized. Memory holds one layer and the states of the texts, never the
 * whole model.
 *
 * @param options.fused of `fuseForCpu`, its weights all in `dataPath`.
 * @param options.folder for files of a moment.
 */
export async function walkLayers(options: {
  readonly fused: OnnxModel;
  readonly dataPath: string;
  readonly texts: readonly (readonly number[])[];
  readonly folder: string;
  readonly onLayer?: (done: number, of: number) => void;
}): Promise<LayerWalk> {
  const { fused, texts, folder } = options;
  const bounds = layerBounds(fused);
  const inputs = texts.map((ids) => feedsOf(ids));
  let float32 = await embed({ ...options, inputs, output: bounds[0] });
  const tables = quantizeForCpu(partOf(fused, { from: [], to: [bounds[0]] }), new Map());
  let int8 = await runAll(await loadPart(tables, folder), inputs, bounds[0]);
  const divisors = new Map<string, Float32Array>();
  const exponents: number[] = [];
  for (const [index, output] of bounds.slice(1).entries()) {
    options.onLayer?.(index, bounds.length - 1);
    const input = bounds[index];
    const feeds = (states: readonly States[]) =>
      states.map((one, text) => ({ ...inputs[text], [input]: one }));
    const layer = { part: partOf(fused, { from: [input], to: [output] }), input, output };
    const exact = await runExact({ ...layer, feeds: feeds(float32), folder, fused });
    const chosen = await smoothLayer({ layer, folder, ...exact });
    for (const [name, one] of chosen.divisors) divisors.set(name, one);
    exponents.push(chosen.exponent);
    int8 = await runAll(chosen.loaded, feeds(int8), output);
    float32 = exact.after;
  }
  const hidden = bounds[bounds.length - 1];
  const outputs = fused.graph.outputs.map(({ name }) => name);
  const heads = await loadPart(partOf(fused, { from: [hidden], to: outputs }), folder);
  const answers: { float32: HeadAnswers; int8: HeadAnswers }[] = [];
  for (const [text, feeds] of inputs.entries()) {
    answers.push({
      float32: await heads.run({ ...feeds, [hidden]: float32[text] }, outputs),
      int8: await heads.run({ ...feeds, [hidden]: int8[text] }, outputs),
    });
  }
  await heads.close();
  return { divisors, exponents, answers };
}

function isLong({ input_ids: ids }: Feeds): boolean {
  return ids instanceof BigInt64Array && ids.length > SAMPLE_TOKENS_MAX;
}

/**
 * A long text alone takes hundreds of megabytes: states and matrices that nobody reads any more
 * must not lie beside it.
 */
function freeGarbage(next: Feeds): void {
  if (isLong(next)) Bun.gc(true);
}

/** The states before the first layer, between layers, and after the last. */
export function layerBounds(fused: OnnxModel): readonly [string, ...string[]] {
  const { nodes } = fused.graph;
  const linears = [...linearsOf(fused).values()];
  const before = nodes
    .filter(({ op }) => op === 'MultiHeadAttention')
    .map(({ inputs }) => linears.find(({ sum }) => sum.outputs[0] === inputs[1])?.input);
  const last = lastStates(fused);
  const [first, ...rest] = [...before, last].filter((name) => name !== undefined);
  const isWhole = rest.length === before.length && before.length > 0;
  demand(first !== undefined && isWhole, 'The layers of the graph do not follow one another.');
  return [first, ...rest];
}

/** What the heads read: the output of the last norm, with its bias. */
function lastStates({ graph: { nodes } }: OnnxModel): string | undefined {
  const norm = nodes.findLast(({ op }) => op === 'LayerNormalization');
  const [states] = norm?.outputs ?? [];
  if (norm === undefined || states === undefined || norm.inputs.length > 2) return states;
  const readers = wiringOf(nodes).consumers.get(states);
  return readers?.find(({ op }) => op === 'Add')?.outputs[0] ?? states;
}

function feedsOf(ids: readonly number[]): Feeds {
  const mask = new BigInt64Array(ids.length).fill(1n);
  return { input_ids: BigInt64Array.from(ids, BigInt), attention_mask: mask };
}

/** The tables are too large for a copy: the part is read over the file that has them. */
async function embed(options: {
  readonly fused: OnnxModel;
  readonly dataPath: string;
  readonly inputs: readonly Feeds[];
  readonly output: string;
}): Promise<States[]> {
  const { fused, dataPath, output } = options;
  const path = `${dataPath}.embedding.partial`;
  writeGraphOver(partOf(fused, { from: [], to: [output] }), path, dataPath);
  const loaded = await loadPartFile(path).finally(() => rm(path, { force: true }));
  return runAll(loaded, options.inputs, output);
}

async function runAll(
  loaded: LoadedPart,
  feeds: readonly Feeds[],
  output: string,
): Promise<States[]> {
  const states: States[] = [];
  for (const one of feeds) {
    freeGarbage(one);
    states.push((await loaded.run(one, [output]))[output]);
  }
  await loaded.close();
  return states;
}

/** Runs a layer in float32, and looks at what goes into its products. */
async function runExact(options: {
  readonly fused: OnnxModel;
  readonly part: OnnxModel;
  readonly input: string;
  readonly output: string;
  readonly feeds: readonly Feeds[];
  readonly folder: string;
}) {
  const { input, output, feeds } = options;
  const watched = productInputs(options.part).filter((name) => name !== input);
  const part = partOf(options.fused, { from: [input], to: [output, ...watched] });
  const loaded = await loadPart(part, options.folder);
  const magnitudes = new Map<string, Float32Array>();
  const after: States[] = [];
  const samples: { before: Feeds; after: States }[] = [];
  for (const before of feeds) {
    const states = before[input] as States;
    const isSample = !isLong(before);
    freeGarbage(before);
    const answer = await loaded.run(before, isSample ? [output, ...watched] : [output]);
    after.push(answer[output]);
    if (!isSample) continue;
    samples.push({ before, after: answer[output] });
    noteMagnitudes(magnitudes, input, states);
    for (const name of watched) noteMagnitudes(magnitudes, name, answer[name]);
  }
  await loaded.close();
  return { after, samples, magnitudes };
}
