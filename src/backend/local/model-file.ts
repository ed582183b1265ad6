import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, parse, resolve } from 'node:path';
import { FLOAT32_FILE, INT8_FILE, readInt8Record } from '../../model/int8-record.ts';
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

/** A model file whose content is known by its hash: what a mapped copy is made of. */
export interface KnownFile {
  /** Relative to the model's folder. */
  readonly path: string;
  /** Of the graph, with weights that lie beside it. */
  readonly bytes: number;
  readonly sha256: string;
}

/**
 * Chooses the file that `named` says, or else the first that this processor can use well: of those
 * that the manifest names or, where it names none, of those that an export left. Its mapped copy
 * goes with it, where it is the file that is known and the copy is that of this runtime.
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
  const chosen = named || usableModelFile(folder, files)?.path || exportedFloat32(folder);
  const modelPath = resolve(folder, chosen);
  const known = knownFiles(folder, files).find(({ path }) => resolve(folder, path) === modelPath);
  // A copy of the known file must not stand in for another one that was put in its place.
  if (known === undefined || modelBytesOf(modelPath) !== known.bytes) return { modelPath };
  const mappedPath = mappedPathOf(modelPath, { sha256: known.sha256, runtimeVersion });
  // What an export left is hashed by its weights, not by the graph.
  const isListed = known.path !== INT8_FILE || files.some(({ path }) => path === INT8_FILE);
  const isChecked = isListed && !isLargeModel(known.bytes);
  const modelSha256 = isChecked ? { modelSha256: known.sha256 } : {};
  return { modelPath, ...modelSha256, ...(existsSync(mappedPath) ? { mappedPath } : {}) };
}

/** What a model is computed from: the file, with its hash where that is known, or else its size. */
export function engineOfFile(options: {
  readonly folder: string;
  readonly files: readonly ListedFile[];
  readonly modelPath: string;
}): string {
  const { folder, files, modelPath } = options;
  const bytes = modelBytesOf(modelPath);
  const known = knownFiles(folder, files).find(({ path }) => resolve(folder, path) === modelPath);
  const isKnown = known !== undefined && known.bytes === bytes;
  const which = isKnown ? `sha256 ${known.sha256.slice(0, 16)}` : `${bytes} bytes`;
  return `${parse(modelPath).base} ${which}`;
}

/**
 * Why a model file may be no use: it has not as many bytes as the manifest or the export says, as
 * half of a copy has. Empty where it has, and for a file that nobody knows.
 */
export function lengthFaultOf(options: {
  readonly folder: string;
  readonly files: readonly ListedFile[];
  readonly modelPath: string;
}): string {
  const { folder, files, modelPath } = options;
  const known = knownFiles(folder, files).find(({ path }) => resolve(folder, path) === modelPath);
  const bytes = modelBytesOf(modelPath);
  if (known === undefined || known.bytes === bytes) return '';
  return `${modelPath} has ${bytes} bytes, not ${known.bytes}: it is incomplete or another file.`;
}

/** The first known file that this processor can use well; undefined where none is known. */
export function usableModelFile(
  folder: string,
  files: readonly ListedFile[],
): KnownFile | undefined {
  return knownFiles(folder, files).find(
    ({ processor }) => processor === undefined || hasInt8DotProduct(),
  );
}

/** The model files of the manifest, and the int8 graph of an export that has proved itself. */
function knownFiles(
  folder: string,
  files: readonly ListedFile[],
): readonly (KnownFile & Pick<ListedFile, 'processor'>)[] {
  const listed = files.filter(({ role }) => role === 'model');
  const record = listed.length > 0 ? undefined : readInt8Record(folder);
  if (record?.graph === undefined || !existsSync(join(folder, INT8_FILE))) return listed;
  const { bytes, data } = record.graph;
  return [{ path: INT8_FILE, bytes, sha256: data, processor: 'int8-dot-product' }];
}

/** Whether attention stores a score for each pair of tokens: all but the graphs for a CPU do. */
export function storesScores(modelPath: string): boolean {
  return !modelPath.endsWith(INT8_FILE) && !modelPath.endsWith(FLOAT32_FILE);
}

function exportedFloat32(folder: string): string {
  return existsSync(join(folder, FLOAT32_FILE)) ? FLOAT32_FILE : 'onnx/model.onnx';
}

/** Bytes of a graph and of its weights; 0 when it is not there. */
export function modelBytesOf(modelPath: string): number {
  const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  // The float32 graph for a CPU is written over the weights of the exported one.
  const isOver = modelPath.endsWith(FLOAT32_FILE);
  const dataPath = isOver ? join(dirname(modelPath), 'model.onnx_data') : `${modelPath}_data`;
  return sizeOf(modelPath) + sizeOf(dataPath);
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
