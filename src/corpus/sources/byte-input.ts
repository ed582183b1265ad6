import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import zlib from 'node:zlib';
import { CorpusError, wordsOf } from '../corpus-error.ts';
import type { InputVersion } from './source.ts';

/** A file or an object whose bytes can be read from anywhere. */
export interface ByteInput {
  readonly name: string;
  look(): Promise<InputVersion>;
  /** @param to exclusive; undefined reads to the end. */
  open(from: number, to?: number): AsyncIterable<Uint8Array>;
}

/** One read from a disk, in bytes. Larger ones read no faster, and lie in memory. */
const READ_BYTES = 1 << 18;

/** A file of this machine. */
export function localInput(path: string): ByteInput {
  return {
    name: path,
    async look() {
      try {
        const { size, mtimeMs } = await stat(path);
        return { bytes: size, version: `mtime:${mtimeMs}` };
      } catch (cause) {
        throw new CorpusError('CORPUS_SOURCE_INVALID', `${path} cannot be read.`, cause);
      }
    },
    open: (start, to) =>
      createReadStream(path, {
        start,
        ...(to === undefined ? {} : { end: to - 1 }),
        highWaterMark: READ_BYTES,
      }),
  };
}

/** How the bytes of a file are packed, by the end of its name. */
export type Compression = 'gzip' | 'zstd' | undefined;

/** @returns the packing, and the name without its ending. */
export function compressionOf(name: string): { compression: Compression; plainName: string } {
  if (/\.gz$/i.test(name)) return { compression: 'gzip', plainName: name.slice(0, -3) };
  if (/\.zst$/i.test(name)) return { compression: 'zstd', plainName: name.slice(0, -4) };
  return { compression: undefined, plainName: name };
}

/**
 * The bytes of a whole input, unpacked.
 *
 * @throws CorpusError CORPUS_SOURCE_INVALID while they are read.
 */
export async function* unpackedBytes(
  input: ByteInput,
  compression: Compression,
): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    const bytes = input.open(0);
    if (compression === undefined) yield* bytes;
    else {
      const unpack = compression === 'gzip' ? zlib.createGunzip() : zlib.createZstdDecompress();
      const packed = Readable.from(bytes, { objectMode: false });
      // `pipe` hands on data but no errors.
      packed.on('error', (error) => unpack.destroy(error));
      yield* packed.pipe(unpack) as AsyncIterable<Uint8Array>;
    }
  } catch (error) {
    if (error instanceof CorpusError) throw error;
    const message = `${input.name} cannot be read: ${wordsOf(error)}.`;
    throw new CorpusError('CORPUS_SOURCE_INVALID', message, error);
  }
}
