import { readFileSync } from 'node:fs';

/**
 * Linux's names of the instructions that multiply and add bytes: VNNI on x64, dot product on ARM.
 */
const FLAGS = /\b(avx512_vnni|avx_vnni|asimddp|i8mm)\b/;

/**
 * Whether this processor multiplies and adds bytes in one instruction. Without it int8 matrices are
 * no faster than others, and some kernels saturate.
 */
export function hasInt8DotProduct(): boolean {
  // Every ARM processor that macOS runs on has it.
  if (process.platform === 'darwin') return process.arch === 'arm64';
  try {
    return FLAGS.test(readFileSync('/proc/cpuinfo', 'latin1'));
  } catch {
    return false;
  }
}
