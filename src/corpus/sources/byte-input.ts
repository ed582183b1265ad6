import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import zlib from 'node:zlib';
import { CorpusError, wordsOf } from '../corpus-error.ts';
import type { InputVersion } from './source.ts';
import { ZstdFrames } from './zstd-frames.ts';

/** A file or an object whose bytes can be read from anywhere. */
export interface ByteInput {
  readonly name: string;
  /** What it was when it was listed, or is now. @throws CorpusError CORPUS_SOURCE_INVALID. */
  look(): Promise<InputVersion>;
  /** Its bytes now. @throws CorpusError CORPUS_SOURCE_INVALID. */
  length(): Promise<number>;
  /**
   * @param to exclusive; undefined reads to the end.
   * @param signal ends the reading; by default it lasts as long as the job does.
   */
  open(from: number, to?: number, signal?: AbortSignal): AsyncIterable<Uint8Array>;
}

/** Inputs that are looked at at the same time: of a disk far away, each look is a round trip. */
const LOOKS_AT_ONCE = 32;

/** Looks at each. @throws what the first that cannot be looked at throws. */
export async function lookAtAll(
  inputs: readonly { look(): Promise<InputVersion> }[],
): Promise<readonly InputVersion[]> {
  const looked: InputVersion[] = [];
  for (let start = 0; start < inputs.length; start += LOOKS_AT_ONCE) {
    const some = inputs.slice(start, start + LOOKS_AT_ONCE);
    looked.push(...(await Promise.all(some.map((input) => input.look()))));
  }
  return looked;
}

/** One read from a disk, in bytes. Larger ones read no faster, and lie in memory. */
const READ_BYTES = 1 << 18;

/** A file of this machine. A class, since of a million files each closure would count. */
export class LocalFile implements ByteInput {
  readonly name: string;

  /** @param path its name, too. */
  constructor(path: string) {
    this.name = path;
  }

  async look(): Promise<InputVersion> {
    try {
      const { size, mtimeMs } = await stat(this.name);
      return { bytes: size, version: `mtime:${mtimeMs}` };
    } catch (cause) {
      throw new CorpusError('CORPUS_SOURCE_INVALID', `${this.name} cannot be read.`, cause);
    }
  }

  async length(): Promise<number> {
    return (await this.look()).bytes;
  }

  open(start: number, to?: number): AsyncIterable<Uint8Array> {
    const end = to === undefined ? {} : { end: to - 1 };
    return createReadStream(this.name, { start, ...end, highWaterMark: READ_BYTES });
  }
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
      const unpack = compression === 'gzip' ? zlib.createGunzip() : zlib.createZstdDecompress(ZSTD);
      const whole = compression === 'gzip' ? bytes : wholeFrames(bytes);
      const packed = Readable.from(whole, { objectMode: false });
      // `pipe` hands on data but no errors.
      packed.on('error', (error) => unpack.destroy(error));
      yield* packed.pipe(unpack) as AsyncIterable<Uint8Array>;
    }
  } catch (error) {
    if (error instanceof CorpusError) throw error;
    const isOther = /incorrect header check|Unknown frame|no frame of/.test(wordsOf(error));
    const why = `it is not ${compression}, as its name says, or has something else after its end`;
    throw unreadable(input, isOther ? new Error(why, { cause: error }) : error);
  }
}

/** The largest window, which dumps of `zstd --long=31` have; memory is taken as far as it fills. */
const ZSTD = { params: { [zlib.constants.ZSTD_d_windowLogMax]: 31 } };

/** @throws Error where the bytes break off within a frame, or go on with something else. */
async function* wholeFrames(
  bytes: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, undefined> {
  const frames = new ZstdFrames();
  for await (const piece of bytes) {
    frames.add(piece);
    yield piece;
  }
  if (!frames.isWhole) throw new Error('it breaks off within a frame of zstd');
}

/** An input that is not what it says it is. */
export function unreadable({ name }: { name: string }, error: unknown): CorpusError {
  const message = `${name} cannot be read: ${wordsOf(error)}.`;
  return new CorpusError('CORPUS_SOURCE_INVALID', message, error);
}
