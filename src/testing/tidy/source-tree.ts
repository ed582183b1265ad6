import { readdirSync, readFileSync } from 'node:fs';
import { join, normalize, relative } from 'node:path';

/** One file of ours, as text. */
export interface SourceFile {
  /** From the root of the project, with forward slashes. */
  readonly path: string;
  readonly text: string;
}

const ROOT = join(import.meta.dir, '../../..');

/** What is not ours, or not text: git ignores most of it. */
const SKIPPED: ReadonlySet<string> = new Set(['node_modules', '.git', '.tools', 'reports', 'dist']);
const TEXT = /\.(?:ts|tsx|js|mjs|json|md|sh|py|toml|yml|yaml|pbtxt|html|css)$|^(?:run|Dockerfile)$/;

/** Every text file of the project; models that were set up are left out. */
export function readSourceTree(root = ROOT): readonly SourceFile[] {
  return readFolder(root, root);
}

function readFolder(root: string, folder: string): SourceFile[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (SKIPPED.has(entry.name)) return [];
    const path = join(folder, entry.name);
    const shown = relative(root, path).replaceAll('\\', '/');
    if (entry.isDirectory()) return isModelFolder(shown) ? [] : readFolder(root, path);
    if (!entry.isFile() || !TEXT.test(entry.name) || entry.name.endsWith('.golden.json')) return [];
    return [{ path: shown, text: readFileSync(path, 'utf8') }];
  });
}

/**
 * `models/bge_model/` is a repository for Triton and ours; the others hold what set-up has made.
 */
function isModelFolder(path: string): boolean {
  return path.startsWith('models/') && path !== 'models/bge_model';
}

/** The code alone: comments are gone and strings are empty, but every line is where it was. */
export function codeOf(text: string): string {
  return text.replaceAll(COMMENT_OR_STRING, (match) => {
    if (!match.startsWith('/')) return `''${'\n'.repeat(match.split('\n').length - 1)}`;
    return match.replaceAll(/[^\n]/g, ' ');
  });
}

const COMMENT_OR_STRING =
  /\/\*[\s\S]*?\*\/|(?<=^|[\s;{},()])\/\/.*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`/gm;

/**
 * Files of ours that a file imports, or starts as a worker, by path from the root. Types count only
 * when asked for.
 */
export function importsOf(file: SourceFile, options: { withTypes: boolean }): readonly string[] {
  const folder = file.path.slice(0, file.path.lastIndexOf('/') + 1);
  const found = file.text.matchAll(
    /^(import type [\s\S]*?|import [^;]*?|export [^;]*?)from '(\.[^']+)'|(?:import|new URL)\(\s*'(\.[^']+)'/gm,
  );
  const paths = [...found].flatMap(([, clause = '', from, dynamic]) => {
    const isType = clause.startsWith('import type') || isOnlyTypes(clause);
    if (isType && !options.withTypes) return [];
    return [normalize(join(folder, from ?? dynamic ?? '')).replaceAll('\\', '/')];
  });
  return [...new Set(paths)];
}

/** `import { type A, type B }`: nothing of it is left at run time. */
function isOnlyTypes(clause: string): boolean {
  const names = /\{([^}]*)\}/.exec(clause)?.[1]?.split(',') ?? [];
  const named = names.map((name) => name.trim()).filter((name) => name !== '');
  return named.length > 0 && named.every((name) => name.startsWith('type '));
}
