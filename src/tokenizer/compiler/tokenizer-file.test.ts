import { afterEach, describe, expect, test } from 'bun:test';
import { mkdtemp, readdir, rm, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSmallTokenizer } from '../../testing/small-tokenizer.ts';
import { TokenizerUnsupportedError } from '../tokenizer-error.ts';
import { openCompiledTokenizer } from './tokenizer-file.ts';

const folders: string[] = [];

async function setUp(bytes: Uint8Array) {
  const folder = await mkdtemp(join(tmpdir(), 'tokenizer-'));
  folders.push(folder);
  const paths = {
    tokenizerPath: join(folder, 'tokenizer.json'),
    compiledPath: join(folder, 'tokenizer.compiled'),
  };
  await Bun.write(paths.tokenizerPath, bytes);
  return { folder, paths };
}

afterEach(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
});

describe('openCompiledTokenizer', () => {
  test('compiles once, then opens what it wrote', async () => {
    const { folder, paths } = await setUp(createSmallTokenizer().bytes());
    const first = await openCompiledTokenizer(paths);
    expect(first.rebuiltBecause).toBe('there was no compiled tokenizer');
    expect(first.buffer).toBeInstanceOf(SharedArrayBuffer);
    expect((await readdir(folder)).sort()).toEqual(['tokenizer.compiled', 'tokenizer.json']);
    const second = await openCompiledTokenizer(paths);
    expect(second.rebuiltBecause).toBeNull();
    expect(second.tables.meta).toEqual(first.tables.meta);
  });

  test('compiles anew what is damaged, and says why', async () => {
    const { paths } = await setUp(createSmallTokenizer().bytes());
    await openCompiledTokenizer(paths);
    const file = await Bun.file(paths.compiledPath).bytes();
    file[file.length >> 1] ^= 1;
    await Bun.write(paths.compiledPath, file);
    expect((await openCompiledTokenizer(paths)).rebuiltBecause).toContain('damaged');
    await Bun.write(paths.compiledPath, file.slice(0, 100));
    expect((await openCompiledTokenizer(paths)).rebuiltBecause).toContain('truncated');
    expect((await openCompiledTokenizer(paths)).rebuiltBecause).toBeNull();
  });

  test('compiles anew when the source has changed, and only then', async () => {
    const { paths } = await setUp(createSmallTokenizer(1).bytes());
    const { tables } = await openCompiledTokenizer(paths);
    const later = new Date(Date.now() + 60_000);
    await utimes(paths.tokenizerPath, later, later);
    expect((await openCompiledTokenizer(paths)).rebuiltBecause).toBeNull();
    await Bun.write(paths.tokenizerPath, createSmallTokenizer(2).bytes());
    await utimes(paths.tokenizerPath, later, later);
    const opened = await openCompiledTokenizer(paths);
    expect(opened.rebuiltBecause).toBe('tokenizer.json has changed');
    expect(opened.tables.meta.sourceSha256).not.toBe(tables.meta.sourceSha256);
  });

  test('writes nothing for a source that it cannot compile', async () => {
    const { json, bytes } = createSmallTokenizer();
    json.model.type = 'BPE';
    const { folder, paths } = await setUp(bytes());
    expect(openCompiledTokenizer(paths)).rejects.toThrow(TokenizerUnsupportedError);
    expect(await readdir(folder)).toEqual(['tokenizer.json']);
  });

  test('says when there is no source', async () => {
    const { folder, paths } = await setUp(createSmallTokenizer().bytes());
    const missing = { ...paths, tokenizerPath: join(folder, 'none.json') };
    expect(openCompiledTokenizer(missing)).rejects.toThrow('none.json');
  });
});
