import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Attribute,
  createNode,
  ELEMENT,
  elementCountOf,
  floatTensor,
  type GraphNode,
  generatedData,
  intTensor,
  memoryData,
  type OnnxModel,
  type Tensor,
} from '../../provision/onnx/model.ts';
import { writeModel } from '../../provision/onnx/write-model.ts';
import { encodeLinearLayer } from './write-linear-layer.ts';

/** The sizes of an XLM-RoBERTa. */
export interface EncoderShape {
  readonly layerCount: number;
  readonly hidden: number;
  readonly headCount: number;
  readonly inner: number;
  readonly vocabulary: number;
  readonly positions: number;
}

/** BGE-M3's: 568 million numbers, 2.27 GB. */
export const FULL_SHAPE: EncoderShape = {
  layerCount: 24,
  hidden: 1_024,
  headCount: 16,
  inner: 4_096,
  vocabulary: 250_002,
  positions: 8_194,
};

/** A uniform spread whose standard deviation is the 0.02 that such models are initialised with. */
const SPREAD = 0.02 * Math.sqrt(3);

/**
 * Writes a model of this shape with random weights as published models lie: `onnx/model.onnx` with
 * its weights beside it, and the two heads. Its nodes are those of published files, by which other
 * programs find attention and matrices. Weights are made while they are written, so that memory
 * holds one piece of them.
 */
export function writeEncoderModel(folder: string, shape: EncoderShape): void {
  mkdirSync(join(folder, 'onnx'), { recursive: true });
  writeModel(new EncoderBuilder(shape).build(), join(folder, 'onnx', 'model.onnx'));
  const { hidden } = shape;
  for (const [name, rows, seed] of [
    ['sparse_linear.pt', 1, 1],
    ['colbert_linear.pt', hidden, 2],
  ] as const) {
    const weight = new Float32Array(rows * hidden);
    fillRandom(weight, seed);
    const bias = new Float32Array(rows).fill(0.01);
    writeFileSync(join(folder, name), encodeLinearLayer({ rows, columns: hidden, weight, bias }));
  }
}

/** Numbers between -SPREAD and SPREAD by xorshift; the same seed gives the same numbers. */
function fillRandom(piece: Float32Array, seed: number): void {
  let state = (Math.imul(seed, 0x9e3779b1) ^ 0x5bd1e995) | 1;
  for (let index = 0; index < piece.length; index += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    piece[index] = (state / 2 ** 31) * SPREAD;
  }
}

class EncoderBuilder {
  readonly #shape: EncoderShape;
  readonly #nodes: GraphNode[] = [];
  readonly #constants = new Map<string, Tensor>();
  #seed = 100;

  constructor(shape: EncoderShape) {
    this.#shape = shape;
  }

  build(): OnnxModel {
    const { hidden, layerCount } = this.#shape;
    let states = this.#embed();
    for (let layer = 0; layer < layerCount; layer += 1) {
      const isLast = layer === layerCount - 1;
      states = this.#layer(`layer.${layer}`, states, isLast ? 'token_embeddings' : undefined);
    }
    const ids = { elementType: ELEMENT.int64, dims: ['batch', 'sequence'] };
    const output = { elementType: ELEMENT.float, dims: ['batch', 'sequence', hidden] };
    return {
      irVersion: 8,
      opsets: new Map([['', 17]]),
      metadata: new Map(),
      graph: {
        name: 'encoder',
        nodes: this.#nodes,
        constants: this.#constants,
        inputs: [
          { name: 'input_ids', ...ids },
          { name: 'attention_mask', ...ids },
        ],
        outputs: [{ name: states, ...output }],
      },
    };
  }

  #embed(): string {
    const { hidden, vocabulary, positions } = this.#shape;
    const word = this.#node('Gather', 'word', [
      this.#weight('word_embeddings', [vocabulary, hidden]),
      'input_ids',
    ]);
    // Positions count real tokens from two on; padding stays at one.
    const axis = this.#constant({ ...intTensor('one', [1]), dims: [] });
    const counted = this.#node('CumSum', 'counted', ['attention_mask', axis]);
    const real = this.#node('Mul', 'real', [counted, 'attention_mask']);
    const position = this.#node('Gather', 'position', [
      this.#weight('position_embeddings', [positions, hidden]),
      this.#node('Add', 'position_ids', [real, axis]),
    ]);
    const across = this.#constant(intTensor('across', [1]));
    const over = this.#constant(intTensor('over', [2]));
    const tall = this.#node('Unsqueeze', 'mask_tall', ['attention_mask', across]);
    const wide = this.#node('Unsqueeze', 'mask_wide', [tall, over]);
    const mask = this.#node('Cast', 'mask', [wide], { to: int(ELEMENT.float) });
    const one = this.#constant(floatTensor('one_float', [], [1]));
    const lowest = this.#constant(floatTensor('lowest', [], [-3.4028234663852886e38]));
    const padding = this.#node('Sub', 'padding', [one, mask]);
    this.#node('Mul', 'attention_bias', [padding, lowest]);
    const { headCount } = this.#shape;
    this.#constant(intTensor('split', [0, 0, headCount, hidden / headCount]));
    this.#constant(intTensor('join', [0, 0, hidden]));
    this.#constant(floatTensor('scale', [], [Math.sqrt(hidden / headCount)]));
    this.#constant(floatTensor('sqrt2', [], [Math.SQRT2]));
    this.#constant(floatTensor('half', [], [0.5]));
    return this.#norm('embeddings', this.#node('Add', 'embedded', [word, position]));
  }

  #layer(name: string, input: string, output: string | undefined): string {
    const { hidden, inner } = this.#shape;
    const head = (part: string, perm: number[]): string => {
      const full = this.#linear(`${name}.${part}`, input, [hidden, hidden]);
      const split = this.#node('Reshape', `${name}.${part}.split`, [full, 'split']);
      return this.#node('Transpose', `${name}.${part}.heads`, [split], { perm: ints(perm) });
    };
    const [query, key] = [head('query', [0, 2, 1, 3]), head('key', [0, 2, 3, 1])];
    const product = this.#node('MatMul', `${name}.product`, [query, key]);
    const scores = this.#node('Div', `${name}.scores`, [product, 'scale']);
    const masked = this.#node('Add', `${name}.masked`, [scores, 'attention_bias']);
    const weights = this.#node('Softmax', `${name}.weights`, [masked], { axis: int(-1) });
    const value = head('value', [0, 2, 1, 3]);
    const mixed = this.#node('MatMul', `${name}.mixed`, [weights, value]);
    const back = this.#node('Transpose', `${name}.back`, [mixed], { perm: ints([0, 2, 1, 3]) });
    const joined = this.#node('Reshape', `${name}.joined`, [back, 'join']);
    const attended = this.#linear(`${name}/attention/output/dense`, joined, [hidden, hidden]);
    const between = this.#norm(
      `${name}.between`,
      this.#node('Add', `${name}.residual`, [attended, input]),
    );
    const wide = this.#linear(`${name}/intermediate/dense`, between, [hidden, inner]);
    const ratio = this.#node('Div', `${name}.ratio`, [wide, 'sqrt2']);
    const erf = this.#node('Erf', `${name}.erf`, [ratio]);
    const shifted = this.#node('Add', `${name}.shifted`, [erf, 'one_float']);
    const gated = this.#node('Mul', `${name}.gated`, [wide, shifted]);
    const active = this.#node('Mul', `${name}.active`, [gated, 'half']);
    const narrow = this.#linear(`${name}/output/dense`, active, [inner, hidden]);
    return this.#norm(name, this.#node('Add', `${name}.sum`, [narrow, between]), output);
  }

  #linear(name: string, input: string, dims: [number, number]): string {
    const product = this.#node('MatMul', name, [input, this.#weight(`${name}.weight`, dims)]);
    return this.#node('Add', `${name}.linear`, [this.#weight(`${name}.bias`, [dims[1]]), product]);
  }

  #norm(name: string, input: string, output?: string): string {
    const { hidden } = this.#shape;
    const ones = floatTensor(`${name}.norm.weight`, [hidden], new Float32Array(hidden).fill(1));
    const attributes = { axis: int(-1), epsilon: { kind: 'float', value: 1e-5 } as const };
    const inputs = [input, this.#constant(ones), this.#weight(`${name}.norm.bias`, [hidden])];
    return this.#node('LayerNormalization', output ?? `${name}.norm`, inputs, attributes);
  }

  #weight(name: string, dims: number[]): string {
    this.#seed += 1;
    const seed = this.#seed;
    const elementCount = elementCountOf(dims);
    const data = generatedData({
      elementCount,
      fill: (piece, first) => fillRandom(piece, seed + first),
    });
    // Small ones are read again and again while a graph is worked on.
    const isSmall = elementCount <= 4_096;
    const bytes = isSmall ? Buffer.concat([...data.chunks()]) : undefined;
    return this.#constant({
      name,
      dims,
      elementType: ELEMENT.float,
      data: bytes ? memoryData(new Uint8Array(bytes)) : data,
    });
  }

  #constant(tensor: Tensor): string {
    this.#constants.set(tensor.name, tensor);
    return tensor.name;
  }

  #node(
    op: string,
    output: string,
    inputs: string[],
    attributes: Record<string, Attribute> = {},
  ): string {
    this.#nodes.push(createNode({ op, inputs, output, attributes }));
    return output;
  }
}

function int(value: number): Attribute {
  return { kind: 'int', value: BigInt(value) };
}

function ints(values: number[]): Attribute {
  return { kind: 'ints', value: values.map(BigInt) };
}
