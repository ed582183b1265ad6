/**
 * `bun run build:client`: writes the client as a package of its own to `dist/client`: one ES module
 * with msgpackr inside, and its types. It can be installed from that folder, published, or copied
 * to a web server as it is.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import packageJson from '../../package.json';
import { runCommand } from '../../src/provision/run-command.ts';

const ROOT = resolve(import.meta.dir, '../..');

/**
 * Each of them is a file of its own, so that nobody loads the progress bar who does not want it.
 */
const ENTRIES = ['api-encoder', 'progress-bar'] as const;

/** What the licence of the package inside asks of whoever passes it on. */
const BANNER = '/*! Includes msgpackr, MIT License, Copyright (c) 2020 Kris Zyp. */';

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
  const built = await Bun.build({
    entrypoints: ENTRIES.map((name) => join(ROOT, 'src/client', `${name}.ts`)),
    outdir: outDir,
    // For a browser: what it lacks is not in there, and Node, Bun and workers have all that it has.
    target: 'browser',
    format: 'esm',
    minify: true,
    banner: BANNER,
  });
  await writeTypes(outDir);
  await Bun.write(join(outDir, 'package.json'), `${JSON.stringify(clientPackage(), null, 2)}\n`);
  const modules = built.outputs.filter((output) => output.kind === 'entry-point');
  return Promise.all(
    modules.map(async (output) => {
      const bytes = new Uint8Array(await output.arrayBuffer());
      const name = output.path.slice(output.path.lastIndexOf('/') + 1);
      return { name, byteCount: bytes.length, gzipByteCount: Bun.gzipSync(bytes).length };
    }),
  );
}

async function writeTypes(outDir: string): Promise<void> {
  const compiler = join(ROOT, 'node_modules/.bin/tsc');
  const command = [compiler, '-p', join(ROOT, 'src/client'), '--outDir', outDir];
  const { exitCode, output } = await runCommand(command);
  if (exitCode !== 0) throw new Error(`The types were not written.\n${output}`);
}

/** No dependencies: the one that there is lies inside. */
function clientPackage(): Record<string, unknown> {
  const entryOf = (name: string) => ({ types: `./${name}.d.ts`, default: `./${name}.js` });
  return {
    name: `${packageJson.name}-client`,
    version: packageJson.version,
    description: 'Client of the BGE-M3 embedding server',
    license: packageJson.license,
    type: 'module',
    sideEffects: false,
    exports: { '.': entryOf('api-encoder'), './progress-bar': entryOf('progress-bar') },
  };
}

if (import.meta.main) {
  const files = await buildClient(join(ROOT, 'dist/client'));
  for (const { name, byteCount, gzipByteCount } of files) {
    console.log(`dist/client/${name}: ${byteCount} bytes, ${gzipByteCount} gzipped`);
  }
}
