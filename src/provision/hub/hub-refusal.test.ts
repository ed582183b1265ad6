import { describe, expect, test } from 'bun:test';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type DownloadFixture,
  large,
  REPOSITORY,
  REVISION,
  sha256,
  small,
  useDownloadFixture,
} from '../../testing/hub/download-fixture.ts';

const at = useDownloadFixture();

describe('what is refused', () => {
  async function failure(options: Parameters<DownloadFixture['download']>[0]) {
    const error = await at()
      .download(options)
      .then(
        () => undefined,
        (caught) => caught,
      );
    // Nothing half-written under the final name, and nothing wrong kept to be resumed.
    expect(await readdir(at().folder)).not.toContain('file');
    return error;
  }

  test.each(['onnx/large.bin', 'small.json'])('%s with one wrong bit', async (path) => {
    at().hub.setFault(() => ({ flipByteAt: 100 }));
    expect(await failure({ path })).toMatchObject({ code: 'HUB_FILE_HASH' });
    expect(await readdir(at().folder)).toEqual([]);
  });

  test('another file than the pinned one, with both names in the message', async () => {
    const pinned = sha256(large);
    const error = await failure({ path: 'small.json', sha256: pinned });
    expect(error.message).toContain(pinned);
    expect(error.message).toContain('small.json');
  });

  test('another length than the pinned one, before any byte is stored', async () => {
    const error = await failure({ path: 'small.json', bytes: 201 });
    expect(error.message).toContain('has 200 bytes, expected 201');
  });

  test('a file that the hub does not have', async () => {
    expect(await failure({ path: 'none.bin' })).toMatchObject({ code: 'HUB_FILE_UNKNOWN' });
    expect(await failure({ path: 'small.json', revision: 'f'.repeat(40) })).toMatchObject({
      code: 'HUB_FILE_UNKNOWN',
      retryable: false,
    });
  });

  test('another commit than the pinned one', async () => {
    at().hub.setFault(() => ({ headers: { 'x-repo-commit': 'a'.repeat(40) } }));
    expect((await failure({ path: 'small.json' })).message).toContain('is of commit aaaa');
  });

  test('a file without any hash to hold it against', async () => {
    at().hub.setFault(() => ({ headers: { etag: '"opaque"' } }));
    expect((await failure({ path: 'small.json' })).message).toContain('states no hash');
  });

  test.each(['file:///etc/passwd', 'ftp://127.0.0.1/x', 'http://'])(
    'a redirect to %s',
    async (to) => {
      at().hub.setFault(() => ({ status: 302, headers: { location: to } }));
      expect((await failure({ path: 'small.json' })).message).toContain('not followed');
    },
  );

  test('redirects without an end', async () => {
    at().hub.setFault(() => ({ status: 302, headers: { location: '/store/x' } }));
    at().hub.put({ repository: 'store', revision: '', path: '', content: small });
    const loop = `/${REPOSITORY}/resolve/${REVISION}/small.json`;
    at().hub.setFault(() => ({ status: 302, headers: { location: loop } }));
    expect((await failure({ path: 'small.json' })).message).toContain('without an end');
  });

  test('a range that was not asked for', async () => {
    await writeFile(join(at().folder, 'file.partial'), small.subarray(0, 10));
    at().hub.setFault(() => ({ headers: { 'content-range': 'bytes 0-189/200' } }));
    expect((await failure({ path: 'small.json' })).message).toContain('asked for bytes from 10');
  });
});

describe('a hub in trouble', () => {
  test('is asked again after the time that it names', async () => {
    let count = 0;
    at().hub.setFault(() => {
      count += 1;
      return count === 1 ? { status: 429, headers: { 'retry-after': '2' } } : undefined;
    });
    await at().download({ path: 'small.json' });
    expect(at().delays).toEqual([2_000]);
  });

  test('is given up when it stays so', async () => {
    at().hub.setFault(() => ({ status: 503 }));
    const failed = await at()
      .download({ path: 'small.json' })
      .catch((error) => error);
    expect(failed).toMatchObject({ code: 'HUB_REFUSED', message: expect.stringContaining('503') });
    expect(at().delays).toHaveLength(2);
  });

  test('or not there at all is named', async () => {
    const { url } = at().hub;
    await at().hub.close();
    const failed = await at()
      .download({ path: 'small.json' })
      .catch((error) => error);
    expect(failed).toMatchObject({ code: 'HUB_UNREACHABLE' });
    expect(failed.message).toContain(url);
  });
});
