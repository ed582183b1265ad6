import { describe, expect, test } from 'bun:test';
import {
  filesBelowFloor,
  importCycles,
  importsOfScripts,
  unusedFiles,
  wrongImports,
} from './tidy/import-rules.ts';
import { RULES } from './tidy/rules.ts';
import { readSourceTree, type SourceFile } from './tidy/source-tree.ts';

/**
 * The rules of the house that a machine can check. Each is shown to fail first, on a file that is
 * planted.
 */

const FILES = readSourceTree();

/** Faults as `path: fault`, so that a failure can be read. */
function faultsIn(files: readonly SourceFile[], check: (file: SourceFile) => readonly string[]) {
  return files.flatMap((file) => check(file).map((fault) => `${file.path}: ${fault}`));
}

describe.each(RULES.map((rule) => [rule.name, rule] as const))('%s', (_name, rule) => {
  test('can fail', () => {
    expect(rule.check(rule.planted)).not.toEqual([]);
  });

  test('holds', () => {
    expect(faultsIn(FILES, rule.check)).toEqual([]);
  });
});

describe('imports', () => {
  const file = (path: string, ...targets: string[]): SourceFile => ({
    path,
    text: targets.map((target) => `import { a } from '${target}';\n`).join(''),
  });

  test('run one way', () => {
    const planted = [
      file('src/base/a.ts', '../http/b.ts'),
      file('src/client/c.ts', '../config.ts'),
      file('src/serve/d.ts', '../../scripts/ci/e.ts'),
    ];
    expect(wrongImports(planted)).toHaveLength(3);
    expect(wrongImports([file('src/client/c.ts', '../base/errors.ts')])).toEqual([]);
    expect(wrongImports(FILES)).toEqual([]);
  });

  test('never lead from src to scripts, tests included', () => {
    expect(importsOfScripts([file('src/base/a.test.ts', '../../scripts/b.ts')])).toEqual([
      'src/base/a.test.ts -> scripts/b.ts',
    ]);
    expect(importsOfScripts(FILES)).toEqual([]);
  });

  test('never come back to where they began', () => {
    const planted = [file('src/base/a.ts', './b.ts'), file('src/base/b.ts', './a.ts')];
    const cycle = ['src/base/a.ts -> src/base/b.ts -> src/base/a.ts'];
    expect(importCycles(planted)).toEqual(cycle);
    const ofTypes = planted.map(({ path, text }) => ({
      path,
      text: text.replace('import', 'import type'),
    }));
    expect(importCycles(ofTypes)).toEqual(cycle);
    expect(importCycles(FILES)).toEqual([]);
  });

  test('make a small file with one importer say why it stands alone', () => {
    const importer = file('src/base/a.ts', './b.ts');
    const reason = '/** Own file because workers load it. */\n';
    expect(filesBelowFloor([importer, file('src/base/b.ts')])).toEqual([
      'src/base/b.ts <- src/base/a.ts',
    ]);
    expect(filesBelowFloor([importer, { path: 'src/base/b.ts', text: reason }])).toEqual([]);
    expect(filesBelowFloor([importer, { path: 'src/base/b.ts', text: 'x;\n'.repeat(50) }])).toEqual(
      [],
    );
    const second = file('src/base/c.ts', './b.ts');
    expect(filesBelowFloor([importer, second, file('src/base/b.ts')])).toEqual([]);
    expect(filesBelowFloor(FILES)).toEqual([]);
  });

  test('leave no file without a user', () => {
    const planted = [file('src/base/a.ts'), file('src/base/a.test.ts', './a.ts')];
    expect(unusedFiles(planted)).toEqual(['src/base/a.ts']);
    expect(unusedFiles(FILES)).toEqual([]);
  });
});

test('the tree that is checked is the whole one', () => {
  const paths = FILES.map(({ path }) => path);
  for (const path of [
    'src/main.ts',
    'workers/tokenizer-worker.ts',
    'README.md',
    'run.sh',
    'models/bge-m3.json',
  ]) {
    expect(paths).toContain(path);
  }
  expect(paths.filter((path) => path.includes('node_modules'))).toEqual([]);
});
