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

/** What Spark and Delta Lake keep beside the files of a table: none of its rows, or rows begun. */
const KEPT_BESIDE = /(^|\/)_(temporary|delta_log|change_data|spark_metadata)\//;

/** Tables whose files are not all their own, and the paths by which they are known. */
const TABLES: readonly (readonly [path: RegExp, kind: string])[] = [
  [/(^|\/)_delta_log\//, 'Delta Lake'],
  [/(^|\/)metadata\/[^/]+\.metadata\.json$/, 'Iceberg'],
  [/(^|\/)\.hoodie\//, 'Hudi'],
];

/**
 * What of a folder or a prefix is read. The rest is told of: a part of an archive that is packed in
 * another way than the others would be lost in silence.
 */
export class FolderFiles {
  readonly #address: string;
  readonly #isTextFile: (path: string) => boolean;
  /** The first file of each ending that is left out. */
  readonly #leftOut = new Map<string, string>();

  /** @param isTextFile by the name; in a folder lie other things too. */
  constructor(address: string, isTextFile: (path: string) => boolean) {
    this.#address = address;
    this.#isTextFile = isTextFile;
  }

  /**
   * Whether it is one to read.
   *
   * @throws CorpusError CORPUS_SOURCE_INVALID where it says that the folder is a table with rows
   *   that were deleted.
   */
  has(path: string): boolean {
    const [, table] = TABLES.find(([known]) => known.test(path)) ?? [];
    if (table !== undefined) {
      throw invalid(
        `${this.#address} is a table of ${table}, whose files also hold rows that were deleted or ` +
          'written anew; export it to Parquet first. A glob that ends in *.parquet reads all files.',
      );
    }
    if (KEPT_BESIDE.test(path)) return false;
    if (this.#isTextFile(path)) return true;
    const ending = /\.\w+$/.exec(path)?.[0];
    if (ending !== undefined && !this.#leftOut.has(ending)) this.#leftOut.set(ending, path);
    return false;
  }

  /** @returns what was left out, by the ends of names. */
  async leftOut(isFile: (path: string) => Promise<boolean>): Promise<string | undefined> {
    const told: string[] = [];
    for (const [ending, path] of this.#leftOut) {
      if (told.length < ENDINGS_TOLD_MAX && (await isFile(path))) told.push(`${ending} (${path})`);
    }
    if (told.length === 0) return undefined;
    const files = `files ending in ${told.join(', ')}`;
    return `${this.#address}: ${files} are left out: unpack them, or name them by a glob with --input-format`;
  }
}

const ENDINGS_TOLD_MAX = 8;

/** Whether a path that a glob matches is part of the data. */
export function isData(path: string): boolean {
  return !KEPT_BESIDE.test(path);
}

/**
 * The files that an address names: itself, those in a folder and in those below it, or the matches
 * of a glob. Links are followed: whatever Hugging Face has downloaded is links. What a job has
 * written is left out unless it is named by itself.
 *
 * @param say tells of files of a folder that are left out.
 * @returns paths without `./`, in the order of their bytes.
 * @throws CorpusError CORPUS_SOURCE_INVALID.
 */
export async function localPaths(
  address: string,
  isTextFile: (path: string) => boolean,
  say: (words: string) => void,
): Promise<readonly string[]> {
  const facts = await stat(address).catch(() => undefined);
  if (facts?.isFile()) return [normalize(address)];
  const isFolder = facts?.isDirectory() === true;
  if (facts !== undefined && !isFolder) {
    throw invalid(
      `${address} is a pipe or a device, which cannot be read again after a kill; write it to a file.`,
    );
  }
  const folder = new FolderFiles(address, isTextFile);
  if (isFolder && (await isOnDisk(join(address, '.hoodie')))) folder.has('.hoodie/');
  const glob = new Bun.Glob(isFolder ? '**/*' : address);
  const found: string[] = [];
  // Hidden files are left out: they are other programs' own.
  const scan = { onlyFiles: false, followSymlinks: true, ...(isFolder ? { cwd: address } : {}) };
  for await (const path of glob.scan(scan)) {
    const full = normalize(isFolder ? join(address, path) : path);
    const isAsked = isFolder ? folder.has(full) : isData(full);
    if (isAsked && !(await isOutputOf(full, isOnDisk))) found.push(full);
  }
  const leftOut = await folder.leftOut(isFileOnDisk);
  if (leftOut !== undefined) say(leftOut);
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

function isFileOnDisk(path: string): Promise<boolean> {
  return stat(path).then(
    (facts) => facts.isFile(),
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
      if (facts[index] === undefined) {
        const why = path.includes('\uFFFD')
          ? 'its name is not UTF-8: rename it, for instance by convmv'
          : 'a link to nothing?';
        throw invalid(`${path} cannot be read: ${why}`);
      }
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
