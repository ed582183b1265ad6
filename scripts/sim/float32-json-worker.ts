/**
 * A thread of `float32-json-sim.ts`: checks one block of patterns a message, and answers what it
 * found.
 */
import { FLOAT32_JSON_BYTES_MAX, writeFloat32Json } from '../../src/reply/float32-json.ts';
import { faultOfLength, faultOfReading } from '../../src/testing/float32-json-check.ts';

/** A block of patterns, and every which one of them is also checked for length. */
export interface SimBlock {
  readonly first: number;
  readonly count: number;
  readonly lengthEvery: number;
}

export interface SimBlockResult {
  /** Finite patterns that were written and read back. */
  readonly checked: number;
  /** Those of them whose length was checked, too. */
  readonly lengthChecked: number;
  readonly faults: readonly string[];
}

const ROW_LENGTH = 1 << 14;
const EXPONENT_BITS = 0x7f800000;

const bytes = new Uint8Array(ROW_LENGTH * FLOAT32_JSON_BYTES_MAX);
const view = new DataView(bytes.buffer);
const decoder = new TextDecoder();

function written(patterns: Uint32Array): string {
  const row = new Float32Array(patterns.buffer, patterns.byteOffset, patterns.length);
  return decoder.decode(bytes.subarray(0, writeFloat32Json(bytes, view, 0, row)));
}

function checkBlock({ first, count, lengthEvery }: SimBlock): SimBlockResult {
  const faults: string[] = [];
  let checked = 0;
  let lengthChecked = 0;
  for (let start = first; start < first + count; start += ROW_LENGTH) {
    const length = Math.min(ROW_LENGTH, first + count - start);
    const patterns = Uint32Array.from({ length }, (_, index) => start + index).filter(
      (bits) => (bits & EXPONENT_BITS) !== EXPONENT_BITS,
    );
    if (patterns.length === 0) continue;
    const fault = faultOfReading(patterns, written(patterns));
    if (fault !== undefined) faults.push(fault);
    checked += patterns.length;
    for (let bits = Math.ceil(start / lengthEvery) * lengthEvery; ; bits += lengthEvery) {
      if (bits >= start + length) break;
      if ((bits & EXPONENT_BITS) === EXPONENT_BITS) continue;
      const lengthFault = faultOfLength(bits, written(Uint32Array.of(bits)));
      if (lengthFault !== undefined) faults.push(lengthFault);
      lengthChecked++;
    }
  }
  return { checked, lengthChecked, faults };
}

declare const self: Worker;
self.onmessage = (event: MessageEvent<SimBlock>) => self.postMessage(checkBlock(event.data));
