import { faultOfRow, faultOfRows, faultOfWeights } from '../vectors/output-guard.ts';
import type { TextOutput } from './text-output.ts';

/** What the model's rows must be. */
export interface ExpectedRows {
  readonly dimension: number;
  readonly isNormalized: boolean;
}

/** Says what is wrong with what one text got, or nothing. A µs for each thousand numbers. */
export function faultOfOutput(
  output: TextOutput,
  tokenCount: number,
  expected: ExpectedRows,
): string | undefined {
  const { dense, sparse, multi_vector: multiVector } = output;
  const denseFault = dense && faultOfRow(dense, expected);
  if (denseFault !== undefined) return denseFault;
  const sparseFault = sparse && faultOfWeights(sparse);
  if (sparseFault !== undefined) return sparseFault;
  return multiVector && faultOfRows(multiVector, tokenCount - 1, expected);
}
