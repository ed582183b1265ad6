import { importsOf, type SourceFile } from './source-tree.ts';

/** The stages that a request passes through, before the journey strings them together. */
const STAGES = ['tokenizer', 'admission', 'model', 'reply', 'backend', 'batcher'];

/**
 * What a part of `src` may import, beside itself. The stages stand side by side; `encode` strings
 * them together, the APIs know `encode`, and nobody knows the APIs but `serve`.
 */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  base: [],
  config: ['base'],
  vectors: ['base'],
  observe: ['base'],
  tokenizer: ['base', 'observe'],
  admission: ['base', 'observe'],
  model: ['base', 'observe', 'vectors'],
  reply: ['base', 'vectors'],
  backend: ['base', 'observe', 'vectors', 'model'],
  batcher: ['base', 'observe', 'vectors', 'model', 'backend'],
  client: ['reply', 'base/errors.ts'],
  corpus: ['base', 'reply', 'client', 'model', 'tokenizer'],
  encode: ['base', 'observe', 'vectors', ...STAGES],
  http: ['base', 'observe', 'vectors', ...STAGES, 'encode', 'config'],
  provision: ['base', 'observe', 'vectors', 'model', 'tokenizer', 'backend'],
  serve: ['base', 'observe', 'vectors', ...STAGES, 'encode', 'http', 'config', 'provision'],
  'main.ts': ['base', 'observe', 'config', 'serve', 'corpus'],
};

/** The part that a path belongs to: its folder, or the file itself. */
function partOf(path: string): string {
  const [, part = ''] = path.split('/');
  return part;
}

/** A file that users or the image run: code of `src` that is for no test. */
export function isProductive(file: SourceFile): boolean {
  return file.path.startsWith('src/') && file.path.endsWith('.ts') && !isForTests(file);
}

function isForTests({ path }: SourceFile): boolean {
  return path.startsWith('src/testing/') || path.endsWith('.test.ts');
}

/** Imports that run the wrong way, as `src/a.ts -> src/b.ts`. */
export function wrongImports(files: readonly SourceFile[]): readonly string[] {
  return files.filter(isProductive).flatMap((file) =>
    importsOf(file, { withTypes: true })
      .filter((target) => !mayImport(file.path, target))
      .map((target) => `${file.path} -> ${target}`),
  );
}

/** Imports of `scripts` by `src`, tests and harnesses too, as `src/a.ts -> scripts/b.ts`. */
export function importsOfScripts(files: readonly SourceFile[]): readonly string[] {
  return files
    .filter(({ path }) => path.startsWith('src/') && path.endsWith('.ts'))
    .flatMap((file) =>
      importsOf(file, { withTypes: true })
        .filter((target) => target.startsWith('scripts/'))
        .map((target) => `${file.path} -> ${target}`),
    );
}

function mayImport(path: string, target: string): boolean {
  // Versions are all that anybody wants of it; workers are started, not imported.
  if (target === 'package.json' || target.startsWith('workers/')) return true;
  if (!target.startsWith('src/')) return false;
  const own = partOf(path);
  const allowed = MAY_IMPORT[own] ?? [];
  return partOf(target) === own || allowed.some((part) => isWithin(target, part));
}

function isWithin(target: string, part: string): boolean {
  return partOf(target) === part || target === `src/${part}`;
}

/**
 * Files that no other file imports, starts or names: what is left behind when its last user goes.
 */
export function unusedFiles(files: readonly SourceFile[]): readonly string[] {
  const used = new Set<string>();
  for (const file of files) {
    const isUser = !file.path.endsWith('.test.ts') || file.path.startsWith('src/testing/');
    for (const target of importsOf(file, { withTypes: true })) {
      // A test beside its file does not make the file used.
      if (isUser || isOnlyForTests(target)) used.add(target);
    }
  }
  const started = files.filter(({ path }) => !path.endsWith('.md')).map(({ text }) => text);
  return files
    .filter(({ path }) => path.startsWith('src/') && path.endsWith('.ts'))
    .filter(({ path }) => !path.endsWith('.test.ts') && !used.has(path) && !ENTRIES.has(path))
    .map(({ path }) => path)
    .filter((path) => !isOnlyForTests(path) || !isNamed(path, started));
}

/** Where programs and packages start. */
const ENTRIES: ReadonlySet<string> = new Set([
  'src/main.ts',
  'src/provision/setup.ts',
  'src/provision/export.ts',
  'src/client/api-encoder.ts',
  'src/client/progress-bar.ts',
]);

function isOnlyForTests(path: string): boolean {
  return path.startsWith('src/testing/') || path.startsWith('scripts/');
}

/** A fake that a test starts as a process is named by its file alone. */
function isNamed(path: string, texts: readonly string[]): boolean {
  const name = path.slice(path.lastIndexOf('/') + 1);
  return texts.some((text) => text.includes(name));
}

/**
 * Chains of imports that come back to where they began. Types count: who reads one of the files has
 * to read them all.
 */
export function importCycles(files: readonly SourceFile[]): readonly string[] {
  const targets = new Map(
    files.filter(isProductive).map((file) => [file.path, importsOf(file, { withTypes: true })]),
  );
  const done = new Set<string>();
  const cycles: string[] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    if (trail.includes(path)) {
      cycles.push([...trail.slice(trail.indexOf(path)), path].join(' -> '));
      return;
    }
    if (done.has(path)) return;
    for (const target of targets.get(path) ?? []) visit(target, [...trail, path]);
    done.add(path);
  };
  for (const path of targets.keys()) visit(path, []);
  return cycles;
}

/** A product file with fewer lines is looked at: is it a room, or a corner of its one importer? */
const FLOOR_LINES = 50;

/** How a file below the floor says why it stands alone, in one of its comments. */
const REASON = 'Own file because ';

/**
 * Product files below the floor that have one importer, tests not counted, and give no reason; each
 * with that importer.
 */
export function filesBelowFloor(files: readonly SourceFile[]): readonly string[] {
  const importers = new Map<string, string[]>();
  for (const file of files.filter((file) => !isForTests(file))) {
    for (const target of importsOf(file, { withTypes: true })) {
      importers.set(target, [...(importers.get(target) ?? []), file.path]);
    }
  }
  return files.filter(isProductive).flatMap((file) => {
    const [importer, ...others] = importers.get(file.path) ?? [];
    const isRoom = lineCountOf(file) >= FLOOR_LINES || importer === undefined || others.length > 0;
    return isRoom || file.text.includes(REASON) ? [] : [`${file.path} <- ${importer}`];
  });
}

/** Lines of a file, the last without its end. */
export function lineCountOf({ text }: SourceFile): number {
  return text.trimEnd().split('\n').length;
}
