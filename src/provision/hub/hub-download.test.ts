import { describe, expect, test } from 'bun:test';
import { readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '../../base/clock.ts';
import { large, sha256, small, useDownloadFixture } from '../../testing/hub/download-fixture.ts';
import { downloadHubFile } from './hub-download.ts';

const at = useDownloadFixture();

describe('a hub that behaves', () => {
  test('a large file is verified by the sha256 of the redirect', async () => {
    const seen: [number, number | null][] = [];
    const file = await at().download({
      path: 'onnx/large.bin',
      settings: { onProgress: (...state) => seen.push(state) },
    });
    expect(file).toEqual({ bytes: 300_000, sha256: sha256(large), verifiedBy: 'hub sha256' });
    expect(await at().got()).toEqual(large);
    expect(seen.at(-1)).toEqual([300_000, 300_000]);
    expect(await readdir(at().folder)).toEqual(['file']);
    expect(at().hub.requests.map((request) => request.acceptEncoding)).toEqual(['identity']);
  });

  test('a small file is verified as git names it', async () => {
    expect((await at().download({ path: 'small.json' })).verifiedBy).toBe('hub git-sha1');
    expect(await at().got()).toEqual(small);
  });

  test('a pinned hash comes before what the hub says', async () => {
    const file = await at().download({ path: 'small.json', sha256: sha256(small), bytes: 200 });
    expect(file.verifiedBy).toBe('sha256');
  });
});

test('a file that goes on past its length is left, and is not the one that was pinned', async () => {
  let pieceCount = 0;
  const endless = Bun.serve({
    port: 0,
    fetch: () =>
      new Response(
        new ReadableStream({
          pull(controller) {
            pieceCount++;
            controller.enqueue(new Uint8Array(1000));
          },
        }),
      ),
  });
  try {
    const place = { hub: endless.url.href, repository: 'a/b', revision: 'c', path: 'file' };
    const settings = { attemptCountMax: 1, backoffMsMin: 1, backoffMsMax: 1, stallMsMax: 30_000 };
    const download = downloadHubFile({
      place,
      expected: { bytes: 5000, sha256: sha256(small) },
      target: join(at().folder, 'file'),
      settings: { clock: systemClock, ...settings },
    });
    await expect(download).rejects.toMatchObject({ code: 'HUB_UNREACHABLE', retryable: false });
    expect(pieceCount).toBeLessThan(10_000);
  } finally {
    await endless.stop(true);
  }
});

describe('a connection that is cut', () => {
  test('at any byte of a small file, then restarted, ends the same', async () => {
    for (let cut = 0; cut <= small.length; cut += 1) {
      at().hub.setFault(() => ({ cutAfterBytes: cut }));
      const once = at().download({ path: 'small.json', settings: { attemptCountMax: 1 } });
      const error = await once.catch((caught) => caught);
      if (cut < small.length) {
        expect(error).toMatchObject({ code: 'HUB_UNREACHABLE', retryable: true });
        expect(await readdir(at().folder)).not.toContain('file');
      }
      at().hub.setFault(undefined);
      await at().download({ path: 'small.json' });
      expect(await at().got()).toEqual(small);
      expect(await readdir(at().folder)).toEqual(['file']);
      await rm(join(at().folder, 'file'));
    }
  });

  test('again and again goes on from where it was, for as long as it gets on', async () => {
    let start = 0;
    at().hub.setFault((request) => {
      start = Number(/\d+/.exec(request.range ?? '0')?.[0]);
      return start < 250_000 ? { stallAfterBytes: 40_000 } : undefined;
    });
    // A reset can overtake bytes on their way: the cut comes once they have been written to the
    // disk.
    const onProgress = (bytes: number) => {
      if (bytes === start + 40_000) at().hub.cutConnections();
    };
    await at().download({ path: 'onnx/large.bin', settings: { onProgress } });
    expect(await at().got()).toEqual(large);
    expect(at().retries.length).toBeGreaterThanOrEqual(6);
    expect(at().delays.every((delayMs) => delayMs === 1_000)).toBe(true);
    const starts = at().hub.requests.map((request) =>
      Number(/\d+/.exec(request.range ?? '0')?.[0]),
    );
    expect(starts).toEqual(starts.toSorted((a, b) => a - b));
  });

  test('with no byte gained is given up, after pauses that double', async () => {
    at().hub.setFault(() => ({ cutAfterBytes: 0 }));
    const failed = at().download({ path: 'small.json', settings: { attemptCountMax: 5 } });
    await expect(failed).rejects.toMatchObject({ code: 'HUB_UNREACHABLE' });
    expect(at().delays).toEqual([1_000, 2_000, 3_000, 3_000]);
  });

  test('but left half-open is made anew', async () => {
    let count = 0;
    at().hub.setFault(() => {
      count += 1;
      return count === 1 ? { stallAfterBytes: 100_000 } : undefined;
    });
    await at().download({
      path: 'onnx/large.bin',
      settings: {
        // The next wait is the one that never ends: its deadline passes as soon as it is set.
        onProgress: (bytes) => {
          if (bytes === 100_000 && count === 1) setImmediate(() => at().stall());
        },
      },
    });
    expect(await at().got()).toEqual(large);
    expect(at().retries).toEqual([expect.stringContaining('nothing came for 77777 ms')]);
  });

  test('that looks like the end is not taken for it', async () => {
    let count = 0;
    at().hub.setFault(() => {
      count += 1;
      return count === 1 ? { endAfterBytes: 150 } : undefined;
    });
    await at().download({ path: 'small.json', bytes: 200 });
    expect(await at().got()).toEqual(small);
    expect(at().retries).toEqual([expect.stringContaining('ended at byte 150 of 200')]);
  });

  test('by a hub that ignores ranges leaves no tail of a longer part', async () => {
    await writeFile(join(at().folder, 'file.partial'), new Uint8Array(400_000));
    at().hub.setFault(() => ({ ignoreRange: true }));
    await at().download({ path: 'onnx/large.bin' });
    expect(await at().got()).toEqual(large);
    expect(at().retries).toEqual([]);
  });

  test('by a hub that ignores ranges starts over, and ends the same', async () => {
    await writeFile(join(at().folder, 'file.partial'), large.subarray(0, 123_456));
    at().hub.setFault(() => ({ ignoreRange: true }));
    await at().download({ path: 'onnx/large.bin' });
    expect(await at().got()).toEqual(large);
    expect(at().hub.requests[0]?.range).toBe('bytes=123456-');
  });
});

describe('what an earlier run left', () => {
  test('whole but not yet named is only verified', async () => {
    await writeFile(join(at().folder, 'file.partial'), large);
    await at().download({ path: 'onnx/large.bin' });
    expect(await at().got()).toEqual(large);
  });

  test.each([
    ['of another file', new Uint8Array(5_000)],
    ['too long', new Uint8Array(400_000)],
  ])('%s is thrown away once', async (_name, content) => {
    await writeFile(join(at().folder, 'file.partial'), content);
    await at().download({ path: 'onnx/large.bin' });
    expect(await at().got()).toEqual(large);
    expect(at().retries).toEqual([expect.stringContaining('an earlier run left')]);
  });

  test('cut short by hand is completed', async () => {
    await writeFile(join(at().folder, 'file.partial'), large);
    await truncate(join(at().folder, 'file.partial'), 299_999);
    await at().download({ path: 'onnx/large.bin' });
    expect(await at().got()).toEqual(large);
    expect(at().hub.requests).toHaveLength(1);
  });
});
