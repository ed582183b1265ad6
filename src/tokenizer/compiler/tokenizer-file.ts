import { rename, rm, stat } from 'node:fs/promises';
import { CompiledTokenizerError } from '../tokenizer-error.ts';
import { readCompiledTokenizer, type TokenizerTables } from '../xlmr/compiled-format.ts';
import { compileTokenizer } from './compile-tokenizer.ts';

/** The two files of a model's tokenizer. */
export interface CompiledTokenizerPaths {
  /** The `tokenizer.json`. */
  readonly tokenizerPath: string;
  /** The compiled file; written when it is missing, damaged or of another source. */
  readonly compiledPath: string;
}

/** A compiled tokenizer in memory that every thread can share. */
export interface OpenedTokenizer {
  /** The verified file. A worker reads it with `verifiesChecksum: false`. */
  readonly buffer: SharedArrayBuffer;
  /** Views over `buffer`. */
  readonly tables: TokenizerTables;
  /** Why the file was compiled anew, in words for the log; `null` when it was used as it stood. */
  readonly rebuiltBecause: string | null;
}

/**
 * Opens the compiled tokenizer, and compiles it first when there is none, when it is damaged or of
 * another format, or when its source has changed. The source is hashed only when it was touched
 * after the file was written: hashing 17 MB takes longer than opening the file.
 *
 * @throws TokenizerUnsupportedError, TokenizerInvalidError when the source cannot be compiled.
 */
export async function openCompiledTokenizer(
  paths: CompiledTokenizerPaths,
): Promise<OpenedTokenizer> {
  let rebuiltBecause: string;
  try {
    const opened = await readShared(paths.compiledPath);
    if (await isCurrent(paths, opened.tables)) return { ...opened, rebuiltBecause: null };
    rebuiltBecause = 'tokenizer.json has changed';
  } catch (error) {
    if (error instanceof CompiledTokenizerError) rebuiltBecause = error.message;
    else if (isMissing(error)) rebuiltBecause = 'there was no compiled tokenizer';
    else throw error;
  }
  const compiled = compileTokenizer(await Bun.file(paths.tokenizerPath).bytes());
  // A folder that cannot be written costs the next start its seconds, not this one its tokenizer.
  await writeCompiled(compiled, paths.compiledPath).catch((error: Error) => {
    rebuiltBecause += `; it could not be kept: ${error.message}`;
  });
  return { ...share(compiled), rebuiltBecause };
}

async function readShared(path: string): Promise<Omit<OpenedTokenizer, 'rebuiltBecause'>> {
  return share(await Bun.file(path).bytes());
}

function share(bytes: Uint8Array): Omit<OpenedTokenizer, 'rebuiltBecause'> {
  const buffer = new SharedArrayBuffer(bytes.length);
  // The one copy: files are read into memory that cannot be shared.
  new Uint8Array(buffer).set(bytes);
  return { buffer, tables: readCompiledTokenizer(buffer) };
}

async function isCurrent(paths: CompiledTokenizerPaths, tables: TokenizerTables): Promise<boolean> {
  const [source, compiled] = await Promise.all([
    stat(paths.tokenizerPath),
    stat(paths.compiledPath),
  ]);
  if (source.size !== tables.meta.sourceBytes) return false;
  if (source.mtimeMs < compiled.mtimeMs) return true;
  const bytes = await Bun.file(paths.tokenizerPath).bytes();
  const digest = new Bun.CryptoHasher('sha256').update(bytes).digest('hex');
  return digest === tables.meta.sourceSha256;
}

/** Writes beside the target and renames, so that nobody ever reads half a file. */
async function writeCompiled(compiled: Uint8Array, path: string): Promise<void> {
  const partial = `${path}.${process.pid}.partial`;
  try {
    await Bun.write(partial, compiled);
    await rename(partial, path);
  } catch (error) {
    await rm(partial, { force: true }).catch(() => undefined);
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
