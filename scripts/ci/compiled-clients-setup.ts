/**
 * Builds the clients of compiled languages that the tests call the server with, into
 * `.tools/compiled-clients`. Does nothing, in milliseconds, where they stand. `bun
 * scripts/ci/compiled-clients-setup.ts`
 */
import {
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { COMPILED_CLIENTS_FOLDER } from '../../src/testing/clients/compiled-clients.ts';
import { openGo, run } from './go-toolchain.ts';
import { buildRust } from './rust-toolchain.ts';

const SOURCES = join(import.meta.dir, '../../src/testing/clients');

interface Build {
  /** A file or a folder below `.tools/compiled-clients`. */
  readonly name: string;
  /** What it is built from, pins and sums included. */
  readonly sources: readonly string[];
  /** @param options.work is thrown away afterwards. */
  build(options: { built: string; work: string }): void;
}

const BUILDS: readonly Build[] = [
  {
    name: 'go-openai',
    sources: ['go/go.mod', 'go/go.sum', 'go/main.go'],
    build({ built, work }) {
      const go = openGo({ work, bin: work });
      const words = ['build', '-buildvcs=false', '-ldflags=-s -w', '-o', built, '.'];
      go(words, { cwd: join(SOURCES, 'go') });
    },
  },
  {
    name: 'langchain4j',
    sources: ['java/pom.xml', 'java/LangChain4jClient.java'],
    build({ built, work }) {
      const java = findJava();
      mkdirSync(built);
      run([
        ...['mvn', '--quiet', '--batch-mode', '--strict-checksums'],
        ...['--file', join(SOURCES, 'java/pom.xml'), `-Dmaven.repo.local=${join(work, 'm2')}`],
        'org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies',
        ...[`-DoutputDirectory=${join(built, 'lib')}`, '-DincludeScope=runtime'],
      ]);
      const source = join(SOURCES, 'java/LangChain4jClient.java');
      const options = ['-encoding', 'UTF-8', '-cp', join(built, 'lib/*')];
      run(['javac', ...options, '-d', join(built, 'classes'), source]);
      symlinkSync(java, join(built, 'java'));
    },
  },
  {
    name: 'async-openai',
    sources: ['rust/Cargo.toml', 'rust/Cargo.lock', 'rust/main.rs'],
    build({ built, work }) {
      const programs = buildRust({ manifest: join(SOURCES, 'rust/Cargo.toml'), work });
      renameSync(join(programs, 'async-openai'), built);
    },
  },
];

/** The oldest that LangChain4j runs on. */
const JAVA_MIN = 17;

/** Nothing brings a whole JDK that a folder of ours could hold, so the machine's is used. */
function findJava(): string {
  const java = Bun.which('java');
  const isWhole = java !== null && Bun.which('javac') !== null && Bun.which('mvn') !== null;
  const version = isWhole ? run(['javac', '-version']) : '';
  const major = Number(/^javac (\d+)/.exec(version)?.[1] ?? 0);
  if (java !== null && major >= JAVA_MIN) return realpathSync(java);
  throw new Error(`install a JDK ${JAVA_MIN} or later and Maven, and put them on the PATH.`);
}

function ensure({ name, sources, build }: Build): void {
  const stamp = sources.map((path) => readFileSync(join(SOURCES, path), 'utf8')).join('\n');
  const stampFile = join(COMPILED_CLIENTS_FOLDER, `${name}.stamp`);
  const place = join(COMPILED_CLIENTS_FOLDER, name);
  const isThere = existsSync(place) && existsSync(stampFile);
  if (isThere && readFileSync(stampFile, 'utf8') === stamp) return;
  const startMs = performance.now();
  console.log(`compiled-clients-setup: building ${name}`);
  const root = `${COMPILED_CLIENTS_FOLDER}.partial-${process.pid}`;
  try {
    const work = join(root, 'work');
    mkdirSync(work, { recursive: true });
    const built = join(root, name);
    build({ built, work });
    mkdirSync(COMPILED_CLIENTS_FOLDER, { recursive: true });
    rmSync(place, { recursive: true, force: true });
    renameSync(built, place);
    writeFileSync(stampFile, stamp);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
  const seconds = ((performance.now() - startMs) / 1000).toFixed(0);
  console.log(`compiled-clients-setup: ${name} done in ${seconds} s`);
}

try {
  for (const build of BUILDS) ensure(build);
} catch (error) {
  console.error(`compiled-clients-setup: ${(error as Error).message}`);
  process.exit(1);
}
