import { readdir } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { env } from 'onnxruntime-node';
import { checkedText, writeRecord } from '../../backend/local/file-check.ts';
import { loadInferenceEngine, openSession } from '../../backend/local/inference-engine.ts';
import type { InferenceOutputs } from '../../backend/local/inference-protocol.ts';
import type { Head } from '../../vectors/output.ts';

/** A model as a manifest describes its outputs. */
export interface MappedModel {
  readonly outputs: { readonly [H in Head]?: string };
  readonly dimension: number;
}

/** The version of the runtime that writes, which is the one that can read. */
export const RUNTIME_VERSION: string = env.versions.node ?? env.versions.common;

/** A file that is another one when the runtime is, for the stamp. */
export const RUNTIME_FILE: string = relative(
  '.',
  Bun.resolveSync('onnxruntime-node/package.json', import.meta.dir),
);

/**
 * Writes a model as ONNX Runtime would have it after loading: the graph optimized (`model.onnx`),
 * and the weights packed for this processor's kernels (`weights.bin`), which every session maps.
 * The result is loaded, and must give the same bits as the original. What it gave, and a hash of
 * each file, is recorded for every later start (`weights.check.json`).
 *
 * @param options.folder there already, and empty.
 * @throws Error with the reason, in words.
 */
export async function writeMappedCopy(
  options: { readonly modelPath: string; readonly folder: string } & MappedModel,
): Promise<void> {
  const { modelPath, folder } = options;
  const mappedPath = join(folder, 'model.onnx');
  const session = await openSession(modelPath, 1, {
    optimizedModelFilePath: mappedPath,
    extra: { session: MAPPED_SESSION },
  });
  await session.release();
  const names = await readdir(folder);
  const expected = await rowsOf({ ...options, modelPath });
  const found = await rowsOf({ ...options, modelPath: mappedPath });
  for (const head of Object.keys(expected) as Head[]) {
    if (!isSame(expected[head], found[head])) throw new Error(`its ${head} rows are others`);
  }
  writeRecord(folder, { names, rows: expected });
}

// The names and forms are those of onnxruntime_session_options_config_keys.h. Tensors below the
// least size, shapes and axes, stay in the graph, where the optimizer wants them.
const MAPPED_SESSION = {
  optimized_model_external_initializers_file_name: 'weights.bin',
  optimized_model_external_initializers_min_size_in_bytes: '1024',
  save_external_prepacked_constant_initializers: '1',
};

async function rowsOf(model: MappedModel & { modelPath: string }): Promise<InferenceOutputs> {
  const engine = await loadInferenceEngine({ ...model, threadCount: 1, wideThreadCount: 0 });
  try {
    return await engine.run(checkedText(model.outputs));
  } finally {
    await engine.release();
  }
}

/** Whether two arrays have the same bits. */
function isSame(a: Float32Array | undefined, b: Float32Array | undefined): boolean {
  return a !== undefined && b !== undefined && Buffer.from(a.buffer).equals(Buffer.from(b.buffer));
}
