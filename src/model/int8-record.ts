import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** How near the int8 graph comes to float32, over the texts of the gate. */
export interface Int8Fidelity {
  readonly passed: boolean;
  /** A sentence with figures for each reason to refuse. */
  readonly reasons: readonly string[];
  readonly textCount: number;
  /** The longest text of the gate. */
  readonly tokensMax: number;
  readonly dense: { readonly cosineMin: number; readonly cosineMean: number };
  /** The least share of the twenty weightiest ids that both name, and how far weights differ. */
  readonly sparse?: { readonly sharedMin: number; readonly differenceMax: number };
  /** How far the scores of pairs differ. */
  readonly multiVector?: { readonly pairCount: number; readonly differenceMax: number };
}

/** What stands beside the int8 graph: what it is, and how well it did. */
export interface Int8Record {
  readonly format: typeof INT8_RECORD_FORMAT;
  /** Id of the model's manifest. */
  readonly model: string;
  /**
   * sha256 of the graph, and of its weights, with the bytes of both; absent where none was written,
   * for the reasons that the gate gives.
   */
  readonly graph?: { readonly model: string; readonly data: string; readonly bytes: number };
  /** The exponent that was chosen for each layer; zero where nothing is divided. */
  readonly exponents: readonly number[];
  readonly gate: Int8Fidelity;
}

/** Another number for every change that an older reader would misread. */
export const INT8_RECORD_FORMAT = 1;

/** The input that names a text's tokens by ones. */
export const ROWS_INPUT = 'attention_mask';
/**
 * Where its last dimension has this name, it may be shorter than the text: heads are computed for
 * as many of the first tokens.
 */
export const ROWS_DIMENSION = 'rows';

/** The int8 graph, below a model's folder. */
export const INT8_FILE = 'onnx/model-int8.onnx';
/** The float32 graph for a CPU, over the weights of the exported graph. */
export const FLOAT32_FILE = 'onnx/model-float32.onnx';

/** Where the record of the int8 graph lies. */
export function int8RecordPath(folder: string): string {
  return `${join(folder, INT8_FILE)}.json`;
}

/** The record of a model's int8 graph; undefined when there is none, or one of another format. */
export function readInt8Record(folder: string): Int8Record | undefined {
  try {
    const record = JSON.parse(readFileSync(int8RecordPath(folder), 'utf8'));
    return record?.format === INT8_RECORD_FORMAT ? record : undefined;
  } catch {
    return undefined;
  }
}
