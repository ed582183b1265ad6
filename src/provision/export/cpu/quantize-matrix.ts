import { ELEMENT, lazyFloats, loadFloats, type Tensor, type TensorData } from '../../onnx/model.ts';

/** The largest magnitude of a column becomes this: int8 without its odd end. */
const INT8_MAX = 127;

/**
 * Before a matrix of so many elements the ones before it are freed: each leaves five bytes an
 * element behind, and a whole model of them would fill a gigabyte before they are noticed.
 */
const LARGE_ELEMENTS = 4_000_000;

/** A matrix `[rows, columns]` and what it is multiplied and divided by before it is quantized. */
export interface MatrixPlan {
  /** Float32; read each time that one of the results is. */
  readonly weight: Tensor;
  /** One for each row: by what the product's input is divided. */
  readonly rowFactors?: Float32Array | undefined;
  /** One for each column: by what the product's output is divided. */
  readonly columnDivisors?: Float32Array | undefined;
}

/**
 * A matrix as int8 with one scale a column. Nothing is computed until it is written, and kept only
 * from the reading of one result to that of the other: a model of gigabytes takes the memory of one
 * of its matrices.
 */
export function quantizeMatrix(name: string, plan: MatrixPlan): { matrix: Tensor; scales: Tensor } {
  const { dims } = plan.weight;
  const [rows = 0, columns = 0] = dims;
  let kept: ReturnType<typeof quantize> | undefined;
  const lazy = (byteCount: number, part: 'matrix' | 'scales'): TensorData => ({
    byteCount,
    *chunks() {
      const both = kept ?? quantize(plan);
      kept = kept === undefined ? both : undefined;
      const { buffer, byteOffset, byteLength } = both[part];
      yield new Uint8Array(buffer, byteOffset, byteLength);
    },
  });
  const matrix = lazy(rows * columns, 'matrix');
  const scales = lazy(4 * columns, 'scales');
  return {
    matrix: { name: `${name}/int8`, dims, elementType: ELEMENT.int8, data: matrix },
    scales: { name: `${name}/scales`, dims: [columns], elementType: ELEMENT.float, data: scales },
  };
}

/** The bias of a product whose output is divided. */
export function dividedBias(bias: Tensor, divisors: Float32Array): Tensor {
  const make = () => loadFloats(bias).map((value, column) => value / (divisors[column] ?? 1));
  return lazyFloats({ name: `${bias.name}/divided`, dims: bias.dims, make });
}

function quantize({ weight, rowFactors, columnDivisors }: MatrixPlan) {
  const [rows = 0, columns = 0] = weight.dims;
  if (rows * columns >= LARGE_ELEMENTS) Bun.gc(true);
  const values = loadFloats(weight);
  const largest = new Float32Array(columns);
  for (let row = 0, at = 0; row < rows; row += 1) {
    const factor = rowFactors?.[row] ?? 1;
    for (let column = 0; column < columns; column += 1, at += 1) {
      values[at] *= factor;
      const magnitude = Math.abs(values[at]);
      if (magnitude > largest[column]) largest[column] = magnitude;
    }
  }
  // What an int8 column holds does not change with the divisor of its output.
  const scales = largest.map((magnitude) => magnitude / INT8_MAX);
  const inverse = scales.map((scale) => (scale === 0 ? 0 : 1 / scale));
  const matrix = new Int8Array(values.length);
  for (let row = 0, at = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1, at += 1) {
      matrix[at] = Math.round(values[at] * inverse[column]);
    }
  }
  if (columnDivisors === undefined) return { matrix, scales };
  return { matrix, scales: scales.map((scale, column) => scale / columnDivisors[column]) };
}
