import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { mappedPathOf, mappedPrefixOf, usableModelFile } from '../../backend/local/model-file.ts';
import { isMappable } from '../../backend/local/session-layout.ts';
import { removeStalePartials, syncFolder } from '../../model/files.ts';
import type { ModelManifest } from '../../model/manifest.ts';
import type { Log } from '../provision-error.ts';

/** What writes the copy: a module of its own, since importing it takes ONNX Runtime. */
type Writer = typeof import('./write-mapped-copy.ts');

/**
 * Writes the mapped copy of the model file that this processor uses, anew each time: what the copy
 * is worth depends on the processor too, and only the runtime knows how. Copies of other versions
 * go.
 *
 * A model of float32's size gets none, nor one whose content nobody knows. Without a copy the
 * server takes the plain file; so whatever fails is told, and is no failure.
 *
 * @param options.folder of the model.
 * @returns the files that decide whether the copy is still good; empty where there is none.
 */
export async function ensureMappedCopy(options: {
  readonly manifest: Pick<ModelManifest, 'files' | 'outputs' | 'dimension'>;
  readonly folder: string;
  readonly importWriter: () => Promise<Writer>;
  readonly log: Log;
}): Promise<readonly string[]> {
  const { manifest, folder, log } = options;
  const file = usableModelFile(folder, manifest.files);
  if (file === undefined || !isMappable(file.bytes)) return [];
  try {
    const writer = await options.importWriter();
    log(`packing the weights of ${file.path} for this processor, to be mapped`);
    const modelPath = join(folder, file.path);
    const made = { sha256: file.sha256, runtimeVersion: writer.RUNTIME_VERSION };
    const target = dirname(mappedPathOf(modelPath, made));
    await writeFolder(target, (partial) =>
      writer.writeMappedCopy({ ...manifest, modelPath, folder: partial }),
    );
    await removeOthers(target, mappedPrefixOf(modelPath));
    const names = (await readdir(target)).sort();
    return [...names.map((name) => join(target, name)), writer.RUNTIME_FILE];
  } catch (error) {
    const [reason] = (error as Error).message.split('\n');
    log(`no mapped copy of ${file.path}, the server loads the file itself: ${reason}`);
    return [];
  }
}

/**
 * Fills a folder so that its final name only ever holds all of it: under a temporary name, to the
 * disk, and only then renamed. What was there goes first, since it must not outlive a failure; who
 * maps its files keeps them.
 */
async function writeFolder(
  target: string,
  fill: (partial: string) => Promise<void>,
): Promise<void> {
  const partial = `${target}.${process.pid}.partial`;
  await removeStalePartials(dirname(target));
  try {
    await rm(target, { recursive: true, force: true });
    await mkdir(partial);
    await fill(partial);
    for (const name of await readdir(partial)) await syncFile(join(partial, name));
    await syncFolder(partial);
    await rename(partial, target);
    await syncFolder(dirname(target));
  } finally {
    await rm(partial, { recursive: true, force: true }).catch(() => {});
  }
}

async function syncFile(path: string): Promise<void> {
  const file = await open(path, 'r');
  await file.sync().finally(() => file.close());
}

async function removeOthers(target: string, prefix: string): Promise<void> {
  const names = await readdir(dirname(target));
  const others = names.filter((name) => name.startsWith(prefix) && name !== basename(target));
  // Partials of a set-up that runs beside this one are its own.
  const old = others.filter((name) => !name.endsWith('.partial'));
  await Promise.all(
    old.map((name) => rm(join(dirname(target), name), { recursive: true, force: true })),
  );
}
