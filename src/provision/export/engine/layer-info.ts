import { readFile } from 'node:fs/promises';
import type { EngineRecord } from '../../../model/engine-record.ts';
import type { AttentionPrecision } from '../graph/attention.ts';

/** How an engine runs attention, by the names of its kernels. */
export type AttentionKernels = EngineRecord['engine']['attention'];

/**
 * Names of fused attention in layers or kernels: `_mha_v2`, `_gemm_mha_v2`, `kgen_mha`, `fmha_v2`
 * (NVIDIA/TensorRT#3243; `data.py` of `.agents/skills/trt-perf-analysis`, 11.1).
 */
const FUSED = /_mha|mha_v\d|kgen_mha|fmha|flash_?attention/i;
/** Kernels of a softmax by itself, as Myelin and older builders name them. */
const SOFTMAX = /softmax|soft_max|MaxrSub|ExpSum|SubExp/i;

/** Which precisions of attention to try, the fastest first; the gate refuses what is not exact. */
export function attentionsFor(version: string): readonly AttentionPrecision[] {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const fusesFloat = major > 11 || (major === 11 && minor >= 3);
  return fusesFloat ? ['float', 'half', 'float-softmax'] : ['half', 'float-softmax'];
}

/**
 * Reads what `--exportLayerInfo` wrote: `{ "Layers": [name or object, …] }`. Each profile has its
 * own layers.
 *
 * @param precision of the graph that was built.
 */
export function readAttention(text: string, precision: AttentionPrecision): AttentionKernels {
  let layers: unknown;
  try {
    layers = JSON.parse(text)?.Layers;
  } catch {
    layers = undefined;
  }
  const names = Array.isArray(layers) ? layers.map((layer) => JSON.stringify(layer)) : [];
  const fusedCount = names.filter((name) => FUSED.test(name)).length;
  const softmaxCount = names.filter((name) => !FUSED.test(name) && SOFTMAX.test(name)).length;
  const fusion = fusionOf(fusedCount, softmaxCount);
  return { precision, fusion, fusedCount, softmaxCount };
}

function fusionOf(fusedCount: number, softmaxCount: number): AttentionKernels['fusion'] {
  if (fusedCount > 0) return softmaxCount > 0 ? 'partly' : 'fused';
  return softmaxCount > 0 ? 'none' : 'unknown';
}

/** The same from the file; unknown where this TensorRT wrote none. */
export async function readAttentionOf(
  path: string,
  precision: AttentionPrecision,
): Promise<AttentionKernels> {
  return readAttention(await readFile(path, 'utf8').catch(() => ''), precision);
}

/**
 * One line on how attention is run, with what it costs where it is not fused.
 *
 * @param options.scoreBytes memory of the scores, which fused kernels do not keep.
 */
export function describeAttention(kernels: AttentionKernels, scoreBytes: number): string {
  const { precision, fusion, fusedCount, softmaxCount } = kernels;
  const what = `attention in ${precision}`;
  if (fusion === 'fused') return `${what}: fused, ${fusedCount} kernels`;
  if (fusion === 'unknown') return `${what}: TensorRT does not tell whether it is fused`;
  const memory = (scoreBytes / 1e9).toFixed(1);
  return (
    `warning: ${what} is ${fusion === 'none' ? 'not' : 'only partly'} fused (${fusedCount} fused ` +
    `kernels, ${softmaxCount} of softmax alone): scores take up to ${memory} GB, and long texts ` +
    'several times as long. A newer Triton image may fuse it.'
  );
}
