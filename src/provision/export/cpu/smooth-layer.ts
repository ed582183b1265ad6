import { invariant } from '../../../base/errors.ts';
import type { OnnxModel } from '../../onnx/model.ts';
import { wiringOf } from '../graph/graph-edit.ts';
import { type Feeds, type LoadedPart, loadPart, type States } from './model-part.ts';
import { type Divisors, linearsOf, quantizeForCpu } from './quantize-for-cpu.ts';

/**
 * Powers of a channel's largest magnitude that are tried as its divisor; zero divides nothing, and
 * saves the division. On multilingual-e5-small 0.7 was best: 0.5 helped little, and 0.8 ruined the
 * matrices.
 */
const EXPONENTS = [0, 0.5, 0.7];
/** What follows the activation function did best with so much less there. */
const LESS_AFTER_ACTIVATION = 0.1;
/** Keeps a channel that is always zero from a divisor of zero. */
const MAGNITUDE_MIN = 1e-4;

/** A layer between its states before and after. */
export interface Layer {
  /** Float32, of `fuseForCpu`, with one output. */
  readonly part: OnnxModel;
  readonly input: string;
  readonly output: string;
}

/** What was chosen for a layer. */
export interface SmoothedLayer {
  readonly exponent: number;
  readonly divisors: Divisors;
  /** The layer in int8, loaded; the caller closes it. */
  readonly loaded: LoadedPart;
}

/**
 * Chooses how a layer's inputs are divided before they are quantized: whatever brings its int8 form
 * nearest to float32 on some texts.
 *
 * @param samples the layer's states before, and what float32 makes of them; borrowed.
 * @param magnitudes the largest magnitude in each channel of each product's input.
 */
export async function smoothLayer(options: {
  readonly layer: Layer;
  readonly samples: readonly { readonly before: Feeds; readonly after: States }[];
  readonly magnitudes: ReadonlyMap<string, Float32Array>;
  readonly folder: string;
}): Promise<SmoothedLayer> {
  const { layer, samples, magnitudes, folder } = options;
  let best: (SmoothedLayer & { error: number }) | undefined;
  for (const exponent of EXPONENTS) {
    const divisors = divisorsOf(layer.part, magnitudes, exponent);
    const loaded = await loadPart(quantizeForCpu(layer.part, divisors), folder);
    Bun.gc(true);
    let error = 0;
    for (const { before, after } of samples) {
      const answer = await loaded.run(before, [layer.output]);
      error += squaredDifference(answer[layer.output].values, after.values);
    }
    const isBetter = best === undefined || error < best.error;
    await (isBetter ? best : { loaded })?.loaded.close();
    if (isBetter) best = { exponent, divisors, loaded, error };
  }
  invariant(best !== undefined, 'some exponent was tried');
  return best;
}

/** Inputs of a layer's products, whose magnitudes decide how they are divided. */
export function productInputs(part: OnnxModel): string[] {
  return [...new Set([...linearsOf(part).values()].map(({ input }) => input))];
}

/** Notes the largest magnitude of each channel. */
export function noteMagnitudes(
  into: Map<string, Float32Array>,
  name: string,
  states: States,
): void {
  const { values, dims } = states;
  const width = dims.at(-1) ?? 1;
  const largest = into.get(name) ?? new Float32Array(width).fill(MAGNITUDE_MIN);
  into.set(name, largest);
  for (let start = 0; start < values.length; start += width) {
    for (let channel = 0; channel < width; channel += 1) {
      const magnitude = Math.abs(values[start + channel]);
      if (magnitude > largest[channel]) largest[channel] = magnitude;
    }
  }
}

function divisorsOf(
  part: OnnxModel,
  magnitudes: ReadonlyMap<string, Float32Array>,
  exponent: number,
): Divisors {
  if (exponent === 0) return new Map();
  const { producer } = wiringOf(part.graph.nodes);
  return new Map(
    [...magnitudes].map(([name, largest]) => {
      const isActivated = producer.get(name)?.op === 'Gelu';
      const power = isActivated ? exponent - LESS_AFTER_ACTIVATION : exponent;
      return [name, largest.map((magnitude) => magnitude ** power)];
    }),
  );
}

function squaredDifference(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let index = 0; index < a.length; index += 1) sum += (a[index] - b[index]) ** 2;
  return sum;
}
