import { afterAll, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listManifests, loadManifest, ManifestError, parseManifest } from './manifest.ts';

const folder = mkdtempSync(join(tmpdir(), 'manifests-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const HASH = 'ab'.repeat(32);

/** The least that a manifest can say; built anew so that a test may damage it. */
function plain(): Record<string, unknown> {
  return {
    id: 'small',
    title: 'Small',
    dimension: 8,
    tokenCountMax: 16,
    pooling: 'mean',
    normalized: true,
    prefixes: { query: 'q: ', passage: '' },
    padId: 1,
    heads: ['dense'],
    files: [{ path: 'onnx/model.onnx', bytes: 5, sha256: HASH, role: 'model' }],
    source: {
      kind: 'wheels',
      wheels: [
        { name: 'w', version: '1.0', file: 'w-1.0.whl', bytes: 5, sha256: HASH, pipArguments: [] },
      ],
    },
    license: 'MIT',
    attribution: ['someone'],
  };
}

test('a plain manifest is read, optional fields absent', () => {
  const manifest = parseManifest(plain(), 'small.json');
  const absent = { outputs: {}, shortDimensions: [] };
  expect(manifest).toEqual({ ...plain(), ...absent } as unknown as typeof manifest);
  expect('tritonModel' in manifest).toBe(false);
});

test('fields that it does not know are left aside', () => {
  expect(() => parseManifest({ ...plain(), note: 'x' }, 'small.json')).not.toThrow();
});

test('a hub source may leave lengths and hashes to the hub', () => {
  const source = {
    kind: 'hub',
    repository: 'owner/name',
    revision: 'c'.repeat(40),
    files: [{ path: 'onnx/model.onnx' }, { path: 'tokenizer.json', bytes: 3, sha256: HASH }],
  };
  expect(parseManifest({ ...plain(), source }, 'small.json').source).toMatchObject({
    files: [
      { path: 'onnx/model.onnx', bytes: null, sha256: null },
      { path: 'tokenizer.json', bytes: 3, sha256: HASH },
    ],
  });
});

test.each([
  ['id', '../up', '"id" must be a lower-case name, but is "../up".'],
  ['title', ' ', '"title" must be a string that is not empty, but is " ".'],
  ['dimension', 0, '"dimension" must be an integer of at least 1, but is 0.'],
  ['dimension', '384', '"dimension" must be an integer of at least 1, but is "384".'],
  ['tokenCountMax', 1.5, '"tokenCountMax" must be an integer of at least 3, but is 1.5.'],
  ['pooling', 'max', '"pooling" must be one of mean, cls, but is "max".'],
  ['normalized', false, '"normalized" must be true, but is false.'],
  ['prefixes', { query: 'q' }, '"prefixes.passage" is missing.'],
  ['prefixes', [], '"prefixes" must be an object, but is [].'],
  ['heads', [], '"heads" must be an array of at least 1, but is [].'],
  ['heads', ['dense', 'x'], '"heads[1]" must be one of dense, sparse, multi_vector, but is "x".'],
  ['outputs', { dense: 3 }, '"outputs.dense" must be a string, but is 3.'],
  ['license', undefined, '"license" is missing.'],
])('%s = %p is refused by name', (field, value, words) => {
  const parse = () => parseManifest({ ...plain(), [field]: value }, 'small.json');
  expect(parse).toThrow(new ManifestError(`small.json: ${words}`));
});

test.each([
  ['path', '../escape', 'without "." or ".."'],
  ['path', 'a/../b', 'without "." or ".."'],
  ['path', '/etc/passwd', 'a relative path'],
  ['path', 'a\\b', 'a relative path'],
  ['path', '', 'a relative path'],
  ['sha256', HASH.toUpperCase(), '64 lower-case hex digits'],
  ['bytes', -1, 'at least 1'],
  ['role', 'weights', 'one of tokenizer'],
])('a file with %s = %p is refused', (field, value, words) => {
  const file = { path: 'a', bytes: 1, sha256: HASH, role: 'model', [field]: value };
  const parse = () => parseManifest({ ...plain(), files: [file] }, 'small.json');
  expect(parse).toThrow(`"files[0].${field}" must be`);
  expect(parse).toThrow(words);
});

test.each([[null], [3], ['x'], [[]]])('%p is no manifest', (value) => {
  expect(() => parseManifest(value, 'small.json')).toThrow(
    'small.json: the manifest must be an object',
  );
});

test('loadManifest reads by name and says what there is when there is none', async () => {
  await Bun.write(join(folder, 'small.json'), JSON.stringify(plain()));
  await Bun.write(join(folder, 'other.json'), JSON.stringify(plain()));
  await Bun.write(join(folder, 'broken.json'), '{');
  const load = (name: string) => loadManifest({ modelsDir: folder, name });
  expect((await load('small')).id).toBe('small');
  await expect(load('large')).rejects.toThrow(
    `unknown model "large": ${folder} describes broken, other, small.`,
  );
  await expect(load('../small')).rejects.toThrow('unknown model "../small"');
  await expect(load('other')).rejects.toThrow('"id" must be "other" as the file is, not "small"');
  await expect(load('broken')).rejects.toThrow('is not valid JSON');
});

test('every manifest of this repository is sound', async () => {
  const names = await listManifests('models');
  expect(names).toEqual(expect.arrayContaining(['bge-m3', 'multilingual-e5-small']));
  for (const name of names) {
    const manifest = await loadManifest({ modelsDir: 'models', name });
    for (const head of Object.keys(manifest.outputs)) {
      expect(manifest.heads as readonly string[]).toContain(head);
    }
    expect(manifest.files.some((file) => file.path === 'tokenizer.json')).toBe(true);
  }
});

test('a tokenizer that comes from another model is the same file there', async () => {
  const manifest = await loadManifest({ modelsDir: 'models', name: 'bge-m3' });
  const other = await loadManifest({ modelsDir: 'models', name: manifest.tokenizerFrom ?? '' });
  const tokenizerOf = (of: typeof manifest) => of.files.filter(({ role }) => role === 'tokenizer');
  expect(tokenizerOf(manifest)).toEqual(tokenizerOf(other));
});
