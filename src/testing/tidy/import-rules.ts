import { importsOf, type SourceFile } from './source-tree.ts';

/**
 * What a part of `src` may import, beside itself. The stages stand side by side; `encode` strings
 * them together, the front doors know `encode`, and nobody knows the front doors but `app`.
 */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  base: [],
  backend: ['base'],
  batcher: ['backend', 'base'],
  tokenizer: ['base'],
  admission: ['base'],
  model: ['base'],
  reply: ['base'],
  client: ['reply', 'base/errors.ts'],
  config: [],
  encode: ['base', 'backend', 'batcher', 'tokenizer', 'admission', 'model', 'reply'],
  http: ['base', 'backend', 'tokenizer', 'model', 'reply', 'encode', 'config'],
  'parts.ts': [
    ...['base', 'backend', 'batcher', 'tokenizer', 'admission', 'model', 'reply', 'encode'],
    'config',
  ],
  'app.ts': ['base', 'encode', 'http', 'config'],
  'listen.ts': ['base', 'config'],
  'exit-status.ts': ['model', 'config'],
  processes: ['base', 'config', 'exit-status.ts'],
  'serve.ts': [
    ...['base', 'model', 'app.ts', 'parts.ts', 'listen.ts', 'exit-status.ts', 'processes'],
    'config',
  ],
  'main.ts': ['base', 'config', 'exit-status.ts', 'processes', 'serve.ts'],
};

/**
 * The part that a path belongs to: its folder, or the file itself. The steps of the journey belong
 * to `encode`, the kinds of settings to `config`.
 */
function partOf(path: string): string {
  const [, part = ''] = path.split('/');
  if (part.startsWith('encode')) return 'encode';
  return part.startsWith('config') ? 'config' : part;
}

function isProductive({ path }: SourceFile): boolean {
  const isSource = path.startsWith('src/') && path.endsWith('.ts');
  return isSource && !path.startsWith('src/testing/') && !path.endsWith('.test.ts');
}

/** Imports that run the wrong way, as `src/a.ts -> src/b.ts`. */
export function wrongImports(files: readonly SourceFile[]): readonly string[] {
  return files.filter(isProductive).flatMap((file) =>
    importsOf(file, { withTypes: true })
      .filter((target) => !mayImport(file.path, target))
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
  'src/client/api-encoder.ts',
  'src/client/progress-bar.ts',
]);

function isOnlyForTests(path: string): boolean {
  return path.startsWith('src/testing/') || path.startsWith('scripts/');
}

/** A stand-in that a test starts as a process is named by its file alone. */
function isNamed(path: string, texts: readonly string[]): boolean {
  const name = path.slice(path.lastIndexOf('/') + 1);
  return texts.some((text) => text.includes(name));
}

/**
 * Chains of imports that come back to where they began, types left out: those are nothing at run
 * time.
 */
export function importCycles(files: readonly SourceFile[]): readonly string[] {
  const targets = new Map(
    files.filter(isProductive).map((file) => [file.path, importsOf(file, { withTypes: false })]),
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
