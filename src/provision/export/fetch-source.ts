import { existsSync } from 'node:fs';
import { mkdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, posix } from 'node:path';
import { sha256OfFile, verifyFile, writeFileAtomic } from '../../model/files.ts';
import type { HubFile, HubSource } from '../../model/manifest-source.ts';
import { type DownloadSettings, downloadHubFile } from '../hub/hub-download.ts';
import { readExternalFiles } from '../onnx/read-model.ts';
import { demand } from '../provision-error.ts';

/** One file of the source, on this machine. */
export interface SourceFile {
  /** Relative to the repository. */
  readonly path: string;
  readonly localPath: string;
  readonly sha256: string;
}

/** What to fetch, from where, and into which folder. */
export interface FetchOptions {
  readonly source: HubSource;
  readonly hub: string;
  /** A folder that has the files already, under the repository's paths or all in one place. */
  readonly from: string | undefined;
  /** Where downloads gather. */
  readonly folder: string;
  readonly settings: DownloadSettings;
  /** Told before each file. */
  readonly onFile?: (path: string) => void;
}

/** What earlier runs downloaded and verified: revision and hash by path. */
type Ledger = Record<string, { revision: string; bytes: number; sha256: string }>;

/**
 * Brings all files of a source onto this machine: those of its manifest, and those that its graph
 * points into, which only the graph knows. Files that an earlier run brought are verified, not
 * downloaded again.
 *
 * @throws ProvisionError, HubError, ModelFileError
 */
export async function fetchSource(options: FetchOptions): Promise<SourceFile[]> {
  const files: SourceFile[] = [];
  const listed = new Set(options.source.files.map((file) => file.path));
  for (const file of options.source.files) {
    const found = await fetchFile(options, file);
    files.push(found);
    if (!file.path.endsWith('.onnx')) continue;
    for (const name of readExternalFiles(found.localPath)) {
      const path = posix.normalize(posix.join(posix.dirname(file.path), name));
      demand(
        !isAbsolute(name) && !path.startsWith('..'),
        `${file.path} points to "${name}", which is no file of the repository.`,
      );
      if (listed.has(path)) continue;
      listed.add(path);
      files.push(await fetchFile(options, { path, bytes: null, sha256: null }));
    }
  }
  return files;
}

async function fetchFile(options: FetchOptions, file: HubFile): Promise<SourceFile> {
  options.onFile?.(file.path);
  if (options.from !== undefined) return localFile(options.from, file);
  const { source, hub, folder, settings } = options;
  const target = join(folder, file.path);
  const ledgerPath = join(folder, 'files.json');
  const ledger = await readLedger(ledgerPath);
  const known = ledger[file.path];
  const expected = file.sha256 ?? known?.sha256;
  if (known?.revision === source.revision && expected !== undefined && existsSync(target)) {
    // A file that was damaged on the disk is fetched again instead of failing every later export.
    const isWhole = await verifyFile({ path: target, bytes: known.bytes, sha256: expected }).then(
      () => true,
      () => false,
    );
    if (isWhole) return { path: file.path, localPath: target, sha256: expected };
  }
  const { repository, revision } = source;
  const done = await downloadHubFile({
    place: { hub, repository, revision, path: file.path },
    expected: file,
    target,
    settings,
  });
  const entry = { revision: source.revision, bytes: done.bytes, sha256: done.sha256 };
  await writeJson(ledgerPath, { ...ledger, [file.path]: entry });
  return { path: file.path, localPath: target, sha256: done.sha256 };
}

async function localFile(folder: string, file: HubFile): Promise<SourceFile> {
  const places = [join(folder, file.path), join(folder, basename(file.path))];
  const localPath = places.find((path) => existsSync(path));
  demand(localPath !== undefined, `${folder} has no ${file.path}.`);
  const sha256 = await sha256OfFile(localPath);
  const wanted = file.sha256 ?? sha256;
  const bytes = file.bytes ?? (await stat(localPath)).size;
  demand(
    sha256 === wanted && bytes === (await stat(localPath)).size,
    `${localPath} is not the file that the manifest names: sha256 ${sha256}, expected ${wanted}.`,
  );
  return { path: file.path, localPath, sha256 };
}

async function readLedger(path: string): Promise<Ledger> {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch {
    // Lost or never written: the files are fetched again, which costs time and nothing else.
    return {};
  }
}

async function writeJson(path: string, value: unknown): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const text = `${JSON.stringify(value, null, 2)}\n`;
  await writeFileAtomic(path, new TextEncoder().encode(text));
}
