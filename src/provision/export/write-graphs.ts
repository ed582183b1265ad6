import { copyFile, mkdir, rename, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { sha256OfFile } from '../../model/files.ts';
import type { ModelManifest } from '../../model/manifest.ts';
import type { OnnxModel } from '../onnx/model.ts';
import { readModel } from '../onnx/read-model.ts';
import { writeModel } from '../onnx/write-model.ts';
import { demand } from '../provision-error.ts';
import type { SourceFile } from './fetch-source.ts';
import type { HeadLayers, HeadNames } from './graph/append-heads.ts';
import type { AttentionPrecision } from './graph/attention.ts';
import { prepareGraphs } from './graph/prepare-graph.ts';
import { readLinearLayer } from './torch-file.ts';

/** The two graphs on the disk, with the sha256 of their files. */
export interface WrittenGraphs {
  readonly exact: WrittenGraph;
  readonly half: WrittenGraph;
  /** Whether both were there already. */
  readonly isKept: boolean;
  /** Writes `half` anew, with another precision within attention. */
  writeHalf(attention: AttentionPrecision): Promise<WrittenGraph>;
  /** Names of the inputs, all `[batch, sequence]`. */
  readonly inputs: readonly string[];
  /** Names of the outputs, those of the manifest's heads. */
  readonly outputs: readonly string[];
}

/** A graph on the disk: its file, its path below the model's folder, and its weights. */
export interface WrittenGraph {
  readonly path: string;
  /** Of the graph in float16. */
  readonly attention?: AttentionPrecision;
  readonly model: string;
  readonly data: string;
}

/** sha256 of the files of both graphs. */
export type GraphSums = Readonly<Record<'exact' | 'half', { model: string; data: string }>>;

/** What the image of Compose fuses: see `attentionsFor`. */
const FIRST_ATTENTION = 'half';

/** What the public repositories call the files of the heads. */
const SPARSE_FILE = 'sparse_linear.pt';
const MULTI_VECTOR_FILE = 'colbert_linear.pt';

/**
 * Writes `<folder>/onnx/model.onnx`, in float32 and also what the embedded backend serves, and
 * `<folder>/half/model.onnx`, which engines are built from; and copies the tokenizer beside them.
 *
 * @param options.known graphs of the same files, which are not written again where they are whole.
 * @throws ProvisionError when the files are not those of the manifest's model, or the disk is too
 * small.
 */
export async function writeGraphs(options: {
  readonly manifest: ModelManifest;
  readonly files: readonly SourceFile[];
  readonly folder: string;
  readonly known?: GraphSums | undefined;
}): Promise<WrittenGraphs> {
  const { manifest, files, folder, known } = options;
  const graph = files.find((file) => file.path.endsWith('.onnx'));
  demand(graph !== undefined, `models/${manifest.id}.json lists no .onnx file of the hub.`);
  const names = headNames(manifest);
  const { exact, half } = prepareGraphs(
    readModel(graph.localPath),
    await readHeads(manifest, files),
    names,
  );
  const isKept = known !== undefined && (await areWhole(folder, known));
  if (!isKept) await checkDisk(folder, [exact, half(FIRST_ATTENTION)]);
  const inputs = exact.graph.inputs.map((input) => input.name);
  const outputs = exact.graph.outputs.map((output) => output.name);
  const [dense] = exact.graph.outputs;
  demand(
    dense?.dims?.at(-1) === manifest.dimension,
    `The graph's rows have ${dense?.dims?.at(-1)} values, the manifest says ${manifest.dimension}.`,
  );
  const write = async (model: OnnxModel, name: string): Promise<WrittenGraph> => {
    await mkdir(join(folder, name), { recursive: true });
    const path = join(folder, name, 'model.onnx');
    return { path, ...writeModel(model, path) };
  };
  const writeHalf = async (attention: AttentionPrecision): Promise<WrittenGraph> => ({
    ...(await write(half(attention), 'half')),
    attention,
  });
  const pathOf = (name: string): string => join(folder, name, 'model.onnx');
  const written: Pick<WrittenGraphs, 'exact' | 'half'> = isKept
    ? {
        exact: { path: pathOf('onnx'), ...known.exact },
        half: { path: pathOf('half'), attention: FIRST_ATTENTION, ...known.half },
      }
    : { exact: await write(exact, 'onnx'), half: await writeHalf(FIRST_ATTENTION) };
  await copyTokenizer(files, folder);
  return { ...written, isKept, writeHalf, inputs, outputs };
}

async function areWhole(folder: string, { exact, half }: GraphSums): Promise<boolean> {
  for (const [name, { model, data }] of [['onnx', exact] as const, ['half', half] as const]) {
    const path = join(folder, name, 'model.onnx');
    const sumOf = (file: string) => sha256OfFile(file).catch(() => undefined);
    if ((await sumOf(path)) !== model || (await sumOf(`${path}_data`)) !== data) return false;
  }
  return true;
}

function headNames(manifest: ModelManifest): HeadNames {
  const { outputs } = manifest;
  return {
    dense: outputs.dense ?? 'dense_vecs',
    sparse: outputs.sparse ?? 'sparse_vecs',
    multiVector: outputs.multi_vector ?? 'colbert_vecs',
  };
}

async function readHeads(
  manifest: ModelManifest,
  files: readonly SourceFile[],
): Promise<HeadLayers> {
  const layer = async (head: ModelManifest['heads'][number], name: string) => {
    if (!manifest.heads.includes(head)) return undefined;
    const file = files.find((one) => one.path.endsWith(name));
    demand(file !== undefined, `models/${manifest.id}.json has the head ${head}, but no ${name}.`);
    return readLinearLayer(file.localPath);
  };
  return {
    sparse: await layer('sparse', SPARSE_FILE),
    multiVector: await layer('multi_vector', MULTI_VECTOR_FILE),
  };
}

async function checkDisk(folder: string, models: readonly OnnxModel[]): Promise<void> {
  await mkdir(folder, { recursive: true });
  const needed = models
    .flatMap((model) => [...model.graph.constants.values()])
    .reduce((sum, tensor) => sum + tensor.data.byteCount, 0);
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  const gigabytes = (bytes: number) => (bytes / 1e9).toFixed(1);
  demand(
    free > needed,
    `${folder} has ${gigabytes(free)} GB free, the graphs need ${gigabytes(needed)} GB.`,
  );
}

async function copyTokenizer(files: readonly SourceFile[], folder: string): Promise<void> {
  const tokenizer = files.find((file) => file.path.endsWith('tokenizer.json'));
  if (!tokenizer) return;
  const target = join(folder, 'tokenizer.json');
  await copyFile(tokenizer.localPath, `${target}.partial`);
  await rename(`${target}.partial`, target);
}
