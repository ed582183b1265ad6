import { realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, normalize } from 'node:path';
import { CorpusError } from '../corpus-error.ts';

/** Files that are looked at at the same time. */
const LOOKS_AT_ONCE = 32;

/**
 * Whether a job has written it, this one or another. Where that lies in a folder that is read, the
 * parts would be texts, and the job could never be taken up again.
 *
 * @param isThere asked of files beside it.
 */
export async function isOutputOf(
  path: string,
  isThere: (path: string) => Promise<boolean>,
): Promise<boolean> {
  if (path.split('/').includes('_embed')) return true;
  const match = /^(.*\/)?part-\d{6,}\.[\w.]+$/s.exec(path);
  return match !== null && isThere(`${match[1] ?? ''}_embed/manifest.json`);
}

/**
 * The files that an address names: itself, those in a folder and in those below it, or the matches
 * of a glob. Links are followed: whatever Hugging Face has downloaded is links. What a job has
 * written is left out unless it is named by itself.
 *
 * @param isTextFile by the name; in a folder lie other things too.
 * @returns paths without `./`, in the order of their bytes.
 * @throws CorpusError CORPUS_SOURCE_INVALID.
 */
export async function localPaths(
  address: string,
  isTextFile: (path: string) => boolean,
): Promise<readonly string[]> {
  const facts = await stat(address).catch(() => undefined);
  if (facts?.isFile()) return [normalize(address)];
  const isFolder = facts?.isDirectory() === true;
  if (facts !== undefined && !isFolder) {
    throw invalid(
      `${address} is a pipe or a device, which cannot be read again after a kill; write it to a file.`,
    );
  }
  const glob = new Bun.Glob(isFolder ? '**/*' : address);
  const found: string[] = [];
  // Hidden files are left out: they are other programs' own.
  const scan = { onlyFiles: false, followSymlinks: true, ...(isFolder ? { cwd: address } : {}) };
  for await (const path of glob.scan(scan)) {
    const full = normalize(isFolder ? join(address, path) : path);
    const isAsked = !isFolder || isTextFile(full);
    if (isAsked && !(await isOutputOf(full, isOnDisk))) found.push(full);
  }
  const files = (await eachOnce(await onlyFiles(found))).sort(byBytes);
  if (files.length > 0) return files;
  throw invalid(
    isFolder
      ? `${address} has no file of texts in it (a name like laws.jsonl, or .csv, .parquet, .txt).`
      : `${address}: there is no such file, folder or match.`,
  );
}

function isOnDisk(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** Without folders. @throws CorpusError CORPUS_SOURCE_INVALID for a link to nothing. */
async function onlyFiles(paths: readonly string[]): Promise<string[]> {
  const files: string[] = [];
  for (let start = 0; start < paths.length; start += LOOKS_AT_ONCE) {
    const some = paths.slice(start, start + LOOKS_AT_ONCE);
    const facts = await Promise.all(some.map((path) => stat(path).catch(() => undefined)));
    for (const [index, path] of some.entries()) {
      if (facts[index] === undefined) throw invalid(`${path} cannot be read: a link to nothing?`);
      if (facts[index].isFile()) files.push(path);
    }
  }
  return files;
}

/** By a link to a folder above it, a file comes again and again; its shortest path is kept. */
async function eachOnce(paths: readonly string[]): Promise<string[]> {
  const folders = new Map<string, string>();
  for (const path of paths) {
    const folder = dirname(path);
    if (!folders.has(folder)) folders.set(folder, await realpath(folder));
  }
  // As a rule no two are one, and a million files need no list of what was seen.
  if (new Set(folders.values()).size === folders.size) return [...paths];
  const seen = new Set<string>();
  return paths
    .toSorted((left, right) => left.length - right.length)
    .filter((path) => {
      const place = join(folders.get(dirname(path)) ?? '', basename(path));
      const isNew = !seen.has(place);
      seen.add(place);
      return isNew;
    });
}

function invalid(message: string): CorpusError {
  return new CorpusError('CORPUS_SOURCE_INVALID', message);
}

/** The same order everywhere, whatever the locale. */
function byBytes(left: string, right: string): number {
  return Buffer.compare(Buffer.from(left), Buffer.from(right));
}
