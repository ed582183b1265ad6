import { faultOfRow } from '../../vectors/output-guard.ts';

/**
 * How alike two rows of one text are when one model made them, as a cosine. Engines of one model in
 * float32, float16 and int8 stay above; another model's rows are anywhere.
 */
const COSINE_MIN = 0.98;

/**
 * Makes sure that all endpoints, and each of them after a restart, serve the model that the first
 * one served: names and sizes may agree while the weights do not, and vectors of two models must
 * never mix.
 */
export class ModelIdentity {
  #known: Float32Array | undefined;

  /**
   * @param row what the model gave to the probe; copied when it is the first. @returns what is
   * wrong, or nothing.
   */
  faultOf(row: Float32Array, dimension: number): string | undefined {
    const fault = faultOfRow(row, { dimension, isNormalized: false });
    if (fault !== undefined) return `its row ${fault}`;
    const known = this.#known;
    if (known === undefined) {
      this.#known = row.slice();
      return undefined;
    }
    let dot = 0;
    let own = 0;
    let other = 0;
    for (let index = 0; index < dimension; index++) {
      dot += row[index] * known[index];
      own += row[index] * row[index];
      other += known[index] * known[index];
    }
    const cosine = dot / Math.sqrt(own * other);
    if (cosine >= COSINE_MIN) return undefined;
    return `it is another model: its row for one and the same text has a cosine of ${cosine.toFixed(4)} to the row known`;
  }
}
