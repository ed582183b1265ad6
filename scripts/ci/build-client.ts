/**
 * `bun run build:client`: writes the client as a package of its own to `dist/client`, and packs it
 * to `dist/NAME-VERSION.tgz`, which npm, Bun and Deno install. It has ES modules and CommonJS with
 * msgpackr beside them, a source map, and types for every way in which TypeScript looks for them.
 */
import { cp, mkdir, readdir, rm } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { transform } from 'esbuild';
import packageJson from '../../package.json';
import { runCommand } from '../../src/provision/run-command.ts';

const ROOT = resolve(import.meta.dir, '../..');
const SOURCE = join(ROOT, 'src/client');

/**
 * Each of them is a file of its own, so that nobody loads the progress bar who does not want it.
 */
const ENTRIES = ['api-encoder', 'progress-bar'] as const;

/**
 * The two kinds of modules, by how files of each end. All lie in one folder: the types of both are
 * neighbours in the tarball, so that gzip stores them once.
 */
const ENDINGS = { esm: 'js', cjs: 'cjs' } as const;
type Format = keyof typeof ENDINGS;

/** What the licence of the package inside asks of whoever passes it on. */
const BANNER = '/*! msgpackr, MIT License, Copyright (c) 2020 Kris Zyp. */';

/** How large a built file is. */
export interface BuiltFile {
  readonly name: string;
  readonly byteCount: number;
  readonly gzipByteCount: number;
}

/**
 * Builds the package into `outDir`, which is emptied first.
 *
 * @throws Error when the bundler or the compiler finds fault.
 */
export async function buildClient(outDir: string): Promise<readonly BuiltFile[]> {
  await rm(outDir, { recursive: true, force: true });
  await mkdir(outDir, { recursive: true });
  const files: BuiltFile[] = [];
  for (const format of Object.keys(ENDINGS) as Format[]) {
    files.push(...(await writeModules(outDir, format)));
  }
  await writeTypes(outDir);
  await writeJson(join(outDir, 'package.json'), clientPackage());
  await writeJson(join(outDir, 'progress-bar/package.json'), entryOf('progress-bar', '..'));
  await cp(join(ROOT, 'LICENSE'), join(outDir, 'LICENSE'));
  await cp(join(SOURCE, 'README.md'), join(outDir, 'README.md'));
  return files;
}

/**
 * Packs a built package.
 *
 * @returns the path of the tarball below `folder`.
 */
export async function packClient(outDir: string, folder: string): Promise<string> {
  const command = [process.execPath, 'pm', 'pack', '--quiet', '--destination', folder];
  const { exitCode, output, out } = await runCommand(command, { cwd: outDir });
  if (exitCode !== 0) throw new Error(`The client was not packed.\n${output}`);
  return join(folder, basename(out.trim()));
}

/**
 * ES modules are minified, for web pages that load them as they are, and have a map to our lines.
 * CommonJS is for Node alone and has none. msgpackr is a file beside them, so that the map is about
 * our code alone.
 */
async function writeModules(outDir: string, format: Format): Promise<readonly BuiltFile[]> {
  const ending = ENDINGS[format];
  const isMinified = format === 'esm';
  const common = {
    outdir: outDir,
    // For a browser: what it lacks is not in there, and Node, Bun and workers have all that it has.
    target: 'browser',
    format,
  } as const;
  const ours = await Bun.build({
    ...common,
    entrypoints: ENTRIES.map((name) => join(SOURCE, `${name}.ts`)),
    naming: `[name].${ending}`,
    plugins: [resolveTo({ from: /^msgpackr\/unpack$/, path: `./msgpackr.${ending}` })],
    // The names of classes and functions stay: they stand in traces and in what Node prints.
    minify: { whitespace: true, syntax: true, identifiers: true, keepNames: true },
    sourcemap: isMinified ? 'linked' : 'none',
  });
  const theirs = await Bun.build({
    ...common,
    entrypoints: [join(ROOT, 'node_modules/msgpackr/unpack.js')],
    naming: `msgpackr.${ending}`,
    minify: true,
    banner: BANNER,
  });
  const files: BuiltFile[] = [];
  for (const { kind, path } of [...ours.outputs, ...theirs.outputs]) {
    if (kind !== 'entry-point') continue;
    await breakLines(path);
    const bytes = await Bun.file(path).bytes();
    const gzipByteCount = Bun.gzipSync(bytes).length;
    files.push({ name: basename(path), byteCount: bytes.length, gzipByteCount });
  }
  return files;
}

/**
 * Node prints the line of an error that nobody catches, and a minified file is one line. The
 * bundler knows no limit of lines; this many characters cost a hundredth of the size after gzip.
 */
const LINE_LENGTH = 400;

/** Breaks a minified file into lines, and writes its map anew when it has one. */
async function breakLines(path: string): Promise<void> {
  const code = await Bun.file(path).text();
  const mapFile = Bun.file(`${path}.map`);
  const hasMap = await mapFile.exists();
  const link = `//# sourceMappingURL=${basename(path)}.map\n`;
  const map = hasMap ? Buffer.from(await mapFile.bytes()).toString('base64') : '';
  const inlined = code.replace(link, `//# sourceMappingURL=data:application/json;base64,${map}`);
  const broken = await transform(inlined, {
    minifyWhitespace: true,
    lineLimit: LINE_LENGTH,
    charset: 'utf8',
    legalComments: 'inline',
    sourcemap: hasMap && 'external',
    sourcesContent: false,
  });
  await Bun.write(path, hasMap ? broken.code + link : broken.code);
  if (hasMap) await Bun.write(mapFile, shortenMap(broken.map, path));
}

/** A package that the built file imports by this path, and does not hold. */
function resolveTo({ from, path }: { from: RegExp; path: string }): Bun.BunPlugin {
  return {
    name: `resolve to ${path}`,
    setup: (build) => void build.onResolve({ filter: from }, () => ({ path, external: true })),
  };
}

/** Names the sources of a map from our root; their text would double the package. */
function shortenMap(text: string, path: string): string {
  const map = JSON.parse(text);
  const fromRoot = (source: string) => relative(ROOT, resolve(dirname(path), source));
  return JSON.stringify({ ...map, sources: map.sources.map(fromRoot) });
}

/** A relative import in a file of types; the sources name files with `.ts`. */
const TYPE_IMPORT = /(?<=\bfrom '|\bimport\(')\.\/([\w-]+)\.ts(?=')/g;

/** Writes the types of each kind of module: only what the entries lead to. */
async function writeTypes(outDir: string): Promise<void> {
  const compiler = join(ROOT, 'node_modules/.bin/tsc');
  const drafts = join(outDir, 'types');
  const { exitCode, output } = await runCommand([compiler, '-p', SOURCE, '--outDir', drafts]);
  if (exitCode !== 0) throw new Error(`The types were not written.\n${output}`);
  const reached = new Set<string>(ENTRIES);
  // A set goes on to what is added to it while it is walked.
  for (const name of reached) {
    const text = await Bun.file(join(drafts, `${name}.d.ts`)).text();
    for (const [, imported] of text.matchAll(TYPE_IMPORT)) reached.add(imported);
    for (const ending of Object.values(ENDINGS)) {
      const linked = text.replaceAll(TYPE_IMPORT, `./$1.${ending}`);
      // Documented once, in the types of the ES modules: the words are half of the file, and npm's
      // tarball would hold them twice.
      const types = ending === 'cjs' ? linked.replaceAll(/^\s*\/\*\*.*?\*\/\n/gms, '') : linked;
      await Bun.write(join(outDir, `${name}.d.${ending.replace('js', 'ts')}`), types);
    }
  }
  await rm(drafts, { recursive: true });
}

/** Where an entry is, for tools that know neither `exports` nor its conditions. */
function entryOf(name: (typeof ENTRIES)[number], root: string): Record<string, string> {
  const path = `${root}/${name}`;
  return { main: `${path}.cjs`, module: `${path}.js`, types: `${path}.d.cts` };
}

/** No dependencies: the one that there is lies inside. */
function clientPackage(): Record<string, unknown> {
  const exported = (name: string) => ({
    import: { types: `./${name}.d.ts`, default: `./${name}.js` },
    require: { types: `./${name}.d.cts`, default: `./${name}.cjs` },
  });
  return {
    name: `${packageJson.name}-client`,
    version: packageJson.version,
    description: 'Client of the BGE-M3 embedding server',
    keywords: ['bge-m3', 'embeddings', 'vectors', 'search', 'client'],
    license: packageJson.license,
    type: 'module',
    sideEffects: false,
    engines: { node: '>=20' },
    ...entryOf('api-encoder', '.'),
    exports: {
      '.': exported('api-encoder'),
      './progress-bar': exported('progress-bar'),
      './package.json': './package.json',
    },
  };
}

async function writeJson(path: string, value: unknown): Promise<void> {
  await Bun.write(path, `${JSON.stringify(value, null, 2)}\n`);
}

if (import.meta.main) {
  const folder = join(ROOT, 'dist/client');
  for (const { name, byteCount, gzipByteCount } of await buildClient(folder)) {
    console.log(`dist/client/${name}: ${byteCount} bytes, ${gzipByteCount} gzipped`);
  }
  for (const name of await readdir(join(ROOT, 'dist'))) {
    if (name.endsWith('.tgz')) await rm(join(ROOT, 'dist', name));
  }
  const tarball = await packClient(folder, join(ROOT, 'dist'));
  console.log(`dist/${basename(tarball)}: ${Bun.file(tarball).size} bytes`);
}
