import { bytesOf } from '../onnx/onnx-graph.ts';
import { BLOCK_VALUE_COUNT, type E5Container } from './e5-container.ts';
import { addLayerNorm, type GraphContext, ORT_DOMAIN } from './e5-layer.ts';

/** Adds one encoder layer over int8 matrices and returns the name of its output. */
export function addInt8Layer(
  context: GraphContext,
  layer: { readonly prefix: string; readonly states: string },
): string {
  const { graph, weights } = context;
  const { prefix: p, states } = layer;
  addAttention(context, p, states);
  const attended = addLinear(context, { states: `${p}ctx`, weight: `${p}ao` });
  graph.node({ operator: 'Add', inputs: [states, attended], outputs: [`${p}r1`] });
  const norm = { states: `${p}r1`, weight: `${p}aln`, output: `${p}x1` };
  const normalized = addLayerNorm({ graph, weights }, norm);
  const widened = addLinear(context, { states: normalized, weight: `${p}fi` });
  graph.node({ operator: 'Gelu', inputs: [widened], outputs: [`${p}g`] });
  const narrowed = addLinear(context, { states: `${p}g`, weight: `${p}fo` });
  graph.node({ operator: 'Add', inputs: [normalized, narrowed], outputs: [`${p}r2`] });
  return addLayerNorm(context, { states: `${p}r2`, weight: `${p}oln`, output: `${p}x2` });
}

/** The states are quantized once for queries, keys and values. */
function addAttention(context: GraphContext, p: string, states: string): void {
  const { graph, weights } = context;
  graph.node({
    operator: 'DynamicQuantizeLinear',
    inputs: [states],
    outputs: [`${p}xq`, `${p}xs`, `${p}xz`],
  });
  for (const part of ['q', 'k', 'v']) {
    const { matrix, scales, bias } = addInt8Weight(context, p + part);
    graph.node({
      operator: 'MatMulIntegerToFloat',
      inputs: [`${p}xq`, matrix, `${p}xs`, scales, `${p}xz`, '', bias],
      outputs: [`${p}${part}`],
      domain: ORT_DOMAIN,
    });
  }
  graph.node({
    operator: 'MultiHeadAttention',
    inputs: [`${p}q`, `${p}k`, `${p}v`],
    outputs: [`${p}ctx`],
    attributes: { num_heads: weights.attentionHeadCount },
    domain: ORT_DOMAIN,
  });
}

/** `states · weightᵀ + bias`, the states quantized on the way in. */
function addLinear(
  context: GraphContext,
  linear: { readonly states: string; readonly weight: string },
): string {
  const { matrix, scales, bias } = addInt8Weight(context, linear.weight);
  return context.graph.node({
    operator: 'DynamicQuantizeMatMul',
    inputs: [linear.states, matrix, scales, '', bias],
    outputs: [`${linear.weight}.out`],
    domain: ORT_DOMAIN,
  });
}

function addInt8Weight({ graph, weights }: GraphContext, name: string) {
  const bias = weights.floats(`${name}.b`);
  const { matrix, scales } = quantizeColumns(weights, name, bias.length);
  const dimensions = [matrix.length / bias.length, bias.length];
  return {
    matrix: graph.constant(`${name}.i8`, { type: 'int8', dimensions, bytes: bytesOf(matrix) }),
    scales: graph.floats(`${name}.scale`, scales),
    bias: graph.floats(`${name}.b`, bias),
  };
}

/** The largest magnitude of a column becomes this: int8 without its odd end. */
const INT8_MAX = 127;

/**
 * Turns a four-bit matrix `[columns, rows]` into int8 `[rows, columns]`, each column with a scale
 * of its own.
 */
function quantizeColumns(
  weights: E5Container,
  name: string,
  columnCount: number,
): { matrix: Int8Array; scales: Float32Array } {
  const { values, scales: blockScales } = weights.quantized(`${name}.w`);
  const rowCount = (values.length * 2) / columnCount;
  const matrix = new Int8Array(rowCount * columnCount);
  const scales = new Float32Array(columnCount);
  const column = new Float32Array(rowCount);
  for (let c = 0; c < columnCount; c++) {
    let largest = 0;
    for (let r = 0; r < rowCount; r++) {
      const index = c * rowCount + r;
      const nibble = (values[index >> 1] >> ((index & 1) * 4)) & 15;
      column[r] = (nibble - 8) * blockScales[Math.floor(index / BLOCK_VALUE_COUNT)];
      largest = Math.max(largest, Math.abs(column[r]));
    }
    scales[c] = largest / INT8_MAX;
    // Rounded to float32, as the product will use it.
    const scale = scales[c];
    for (let r = 0; r < rowCount; r++) {
      matrix[r * columnCount + c] = scale === 0 ? 0 : Math.round(column[r] / scale);
    }
  }
  return { matrix, scales };
}
