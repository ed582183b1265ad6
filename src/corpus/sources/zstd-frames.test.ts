import { expect, test } from 'bun:test';
import { Readable } from 'node:stream';
import zlib from 'node:zlib';
import { type ByteInput, unpackedBytes } from './byte-input.ts';
import { ZstdFrames } from './zstd-frames.ts';

const LINES = Array.from({ length: 3000 }, (_, index) => `статья ${index * 7919}\n`).join('');
const CHECKED = { params: { [zlib.constants.ZSTD_c_checksumFlag]: 1 } };
const SKIPPABLE = Uint8Array.of(0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3);

/** Frames with a checksum and without, of one byte that is said once, empty, and one for others. */
const FRAMES: readonly Uint8Array[] = [
  zlib.zstdCompressSync(Buffer.from(LINES)),
  SKIPPABLE,
  zlib.zstdCompressSync(Buffer.from(LINES.slice(0, 300)), CHECKED),
  zlib.zstdCompressSync(Buffer.alloc(200_000, 'a'), CHECKED),
  zlib.zstdCompressSync(Buffer.from('')),
];

const inputOf = (bytes: Uint8Array): ByteInput => ({
  name: 'laws.jsonl.zst',
  look: async () => ({ bytes: bytes.length, version: '' }),
  length: async () => bytes.length,
  open: () => Readable.from([bytes]),
});

const unpacked = async (bytes: Uint8Array): Promise<string> => {
  const pieces: Uint8Array[] = [];
  for await (const piece of unpackedBytes(inputOf(bytes), 'zstd')) pieces.push(piece);
  return Buffer.concat(pieces).toString();
};

test('is whole at the ends of frames alone, however the bytes come', () => {
  const all = Buffer.concat(FRAMES);
  const ends = new Set<number>([0]);
  for (const frame of FRAMES) ends.add(Math.max(...ends) + frame.length);
  const frames = new ZstdFrames();
  for (let at = 0; at < all.length; at++) {
    expect([at, frames.isWhole]).toEqual([at, ends.has(at)]);
    frames.add(all.subarray(at, at + 1));
  }
  expect(frames.isWhole).toBe(true);
  const atOnce = new ZstdFrames();
  atOnce.add(all);
  expect(atOnce.isWhole).toBe(true);
});

test('a file of several frames is read to its end', async () => {
  const whole = await unpacked(Buffer.concat(FRAMES));
  expect(whole).toBe(LINES + LINES.slice(0, 300) + 'a'.repeat(200_000));
});

test('a file that breaks off is told of, and not taken for a shorter one', async () => {
  const [first = new Uint8Array(), , last = new Uint8Array()] = FRAMES;
  for (const cut of [1, 3, 5, last.length - 2]) {
    const bytes = Buffer.concat([first, last.subarray(0, cut)]);
    await expect(unpacked(bytes)).rejects.toThrow('laws.jsonl.zst cannot be read: it breaks off');
  }
});

test('something else after a frame is told of, and not passed over', async () => {
  for (const rest of ['garbage', '\0\0\0\0\0']) {
    const bytes = Buffer.concat([FRAMES[0] as Uint8Array, Buffer.from(rest)]);
    await expect(unpacked(bytes)).rejects.toThrow('has something else after its end');
  }
});

test('a frame of the largest window is read, as --long=31 writes it', async () => {
  const params = { [zlib.constants.ZSTD_c_windowLog]: 31, ...CHECKED.params };
  const pack = zlib.createZstdCompress({ params });
  const packed = Readable.from([Buffer.from(LINES), Buffer.from(LINES)]).pipe(pack);
  const pieces: Uint8Array[] = [];
  for await (const piece of packed) pieces.push(piece);
  // Written without its size, so that the window alone says what it may need.
  expect(await unpacked(Buffer.concat(pieces))).toBe(LINES + LINES);
});
