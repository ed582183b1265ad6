import { describe, expect, test } from 'bun:test';
import { mkdtemp, readdir, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { seededRandom } from '../../testing/seeded-random.ts';
import { StagedFile } from './staged-file.ts';

describe('StagedFile', () => {
  test('has what was appended, in any pieces, through the cache and past it', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'staged-'));
    try {
      const random = seededRandom(3);
      for (const total of [0, 1, 4095, 4096, 1 << 20, (1 << 20) + 1, (3 << 20) + 77]) {
        for (const isReadSoon of [true, false]) {
          const bytes = Uint8Array.from({ length: total }, () => random.below(256));
          const path = join(folder, 'part');
          const file = await StagedFile.create(path, { isReadSoon });
          for (let from = 0; from < total; ) {
            const to = Math.min(total, from + random.between(1, 3 << 19));
            // Odd places: writing past the cache needs whole pages.
            await file.append(bytes.subarray(from, to), new Uint8Array());
            from = to;
          }
          expect(file.length).toBe(total);
          const start = Uint8Array.of(1, 2, 3).subarray(0, Math.min(3, total));
          await file.overwriteStart(start);
          bytes.set(start);
          await file.finish();
          expect(Buffer.compare(await readFile(path), bytes)).toBe(0);
          await file.remove();
          expect(await readdir(folder)).toEqual([]);
        }
      }
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test('a write that fails is told, whatever was appended since', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'staged-'));
    try {
      const path = join(folder, 'part');
      // A device that is full for ever.
      await symlink('/dev/full', path);
      const file = await StagedFile.create(path, { isReadSoon: true });
      const block = new Uint8Array(1 << 20);
      const writing = async (): Promise<void> => {
        await file.append(block);
        await file.append(block);
        await file.finish();
      };
      await expect(writing()).rejects.toThrow('ENOSPC');
      await file.remove();
      expect(await readdir(folder)).toEqual([]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
