import { existsSync, readFileSync, statSync } from 'node:fs';
import { join, parse, resolve } from 'node:path';
import { isLargeModel } from './session-layout.ts';

/** What a manifest tells of a file, as far as it matters here. */
export interface ListedFile {
  /** Relative to the model's folder. */
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly role: string;
  readonly processor?: 'int8-dot-product';
}

/** Which files a model is loaded from. */
export interface ModelPaths {
  /** The ONNX file as it was published or built. */
  readonly modelPath: string;
  /** What the file must hash to, where it is small enough to be read at each start. */
  readonly modelSha256?: string;
  /** The copy whose weights are mapped, where set-up left one. */
  readonly mappedPath?: string;
}

/**
 * Chooses the file that `named` says, or else the first of the manifest that this processor can use
 * well; and its mapped copy, where it is the manifest's file and the copy is that of this runtime.
 *
 * @param options.folder of the model.
 * @param options.named relative to the folder; empty for none.
 */
export function chooseModelFile(options: {
  readonly folder: string;
  readonly files: readonly ListedFile[];
  readonly named: string;
  readonly runtimeVersion: string;
}): ModelPaths {
  const { folder, files, named, runtimeVersion } = options;
  const modelPath = resolve(folder, named || usableModelFile(files)?.path || 'onnx/model.onnx');
  const file = files.find(
    ({ path, role }) => role === 'model' && resolve(folder, path) === modelPath,
  );
  if (file === undefined) return { modelPath };
  // A copy of the manifest's file must not stand in for another one that was put in its place.
  if (statSync(modelPath, { throwIfNoEntry: false })?.size !== file.bytes) return { modelPath };
  const mappedPath = mappedPathOf(modelPath, { sha256: file.sha256, runtimeVersion });
  const modelSha256 = isLargeModel(file.bytes) ? {} : { modelSha256: file.sha256 };
  return { modelPath, ...modelSha256, ...(existsSync(mappedPath) ? { mappedPath } : {}) };
}

/** The first model file that this processor can use well; undefined where none is listed. */
export function usableModelFile<File extends ListedFile>(files: readonly File[]): File | undefined {
  return files.find(
    ({ role, processor }) => role === 'model' && (processor === undefined || hasInt8DotProduct()),
  );
}

/**
 * Where the mapped copy of a model file lies: in a folder beside it, whose name has what decides
 * whether it can be read, so that what an upgrade leaves behind is not found.
 */
export function mappedPathOf(
  modelPath: string,
  from: { readonly sha256: string; readonly runtimeVersion: string },
): string {
  const { dir } = parse(modelPath);
  const made = [from.runtimeVersion, process.platform, process.arch, from.sha256.slice(0, 12)];
  return join(dir, mappedPrefixOf(modelPath) + made.join('-'), 'model.onnx');
}

/** What the folders of all mapped copies of a model file begin with. */
export function mappedPrefixOf(modelPath: string): string {
  return `${parse(modelPath).name}.mapped-`;
}

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
