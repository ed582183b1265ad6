import { copyFileSync, existsSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ProvisionError } from '../../src/provision/provision-error.ts';
import { runCommandSync } from '../../src/provision/run-command.ts';
import { findPython, makePinnedVenv, type Python } from '../../src/provision/setup/python-venv.ts';
import {
  readTritonVenvStamp,
  TRITON_VENV_DIRECTORY,
  type TritonVenvStamp,
  tritonVenvLayout,
} from '../../src/testing/triton/triton-venv.ts';

/**
 * Makes the Python venv of the tests: a real Triton that runs without a GPU, numpy, and what reads
 * our msgpack replies. Does nothing, in milliseconds, where the venv stands already. `bun
 * scripts/ci/triton-setup.ts`
 */

/**
 * Everything by version, dependencies too, and installed without resolving: a set-up next year
 * installs the same.
 */
const PINS = [
  'nvidia-pytriton==0.7.0',
  'msgpack==1.1.0',
  'msgpack-numpy==0.4.8',
  'requests==2.32.3',
  'urllib3==2.2.3',
  'certifi==2024.8.30',
  'charset-normalizer==3.4.0',
  'idna==3.10',
] as const;

/**
 * What depends on the Python, for each that the Triton wheel has a stub for. numpy 1.26 is the last
 * of numpy 1, which the stub was built against; Python 3.13 has no wheel of it, and the fake
 * models hand tensors over in a way that works with both. ONNX Runtime runs exported models in the
 * engine's place; 1.19 is the last for Python 3.9.
 */
const PINS_BY_PYTHON: Readonly<Record<string, readonly string[]>> = {
  '3.9': ['numpy==1.26.4', 'onnxruntime==1.19.2'],
  '3.10': ['numpy==1.26.4', 'onnxruntime==1.20.1'],
  '3.11': ['numpy==1.26.4', 'onnxruntime==1.20.1'],
  '3.12': ['numpy==1.26.4', 'onnxruntime==1.20.1'],
  '3.13': ['numpy==2.1.3', 'onnxruntime==1.20.1'],
};

const started = performance.now();

function say(line: string): void {
  console.log(`triton-setup: ${line}`);
}

/** Puts the stub where Triton's Python backend looks for it, and checks that all of it runs. */
function finish(directory: string, python: Python, pins: readonly string[]): void {
  const stamp: TritonVenvStamp = {
    pins,
    pythonVersion: python.version,
    pythonLibraryDirectory: python.directory,
  };
  const layout = tritonVenvLayout(directory, stamp);
  copyFileSync(layout.shippedStub, `${layout.stub}.partial`);
  renameSync(`${layout.stub}.partial`, layout.stub);
  verify(layout, pins);
  writeFileSync(join(directory, 'stamp.json'), JSON.stringify(stamp, null, 2));
}

function verify(layout: ReturnType<typeof tritonVenvLayout>, pins: readonly string[]): void {
  const check =
    'import numpy, onnxruntime, msgpack, msgpack_numpy, requests; ' +
    'print("numpy==" + numpy.__version__)';
  const imported = runCommandSync([layout.python, '-c', check]);
  if (imported.exitCode !== 0 || !pins.includes(imported.out.trim())) {
    const found = imported.out.trim() || imported.errors.trim().split('\n').at(-1);
    throw new ProvisionError(`the installed packages do not import: ${found}`);
  }
  for (const program of [layout.tritonserver, layout.stub]) {
    const linked = runCommandSync(['ldd', program], { env: layout.environment });
    const missing = /^\s*(\S+) => not found/m.exec(linked.out)?.[1];
    if (missing !== undefined) {
      throw new ProvisionError(`${program} misses the shared library ${missing}: install it`);
    }
  }
}

/**
 * True when the venv stands, holds what this version of the script installs, and its Python is
 * still there.
 */
function isReady(): boolean {
  const stamp = readTritonVenvStamp(TRITON_VENV_DIRECTORY);
  if (stamp === undefined) return false;
  const versioned = PINS_BY_PYTHON[stamp.pythonVersion] ?? [];
  const layout = tritonVenvLayout(TRITON_VENV_DIRECTORY, stamp);
  const samePins = [...PINS, ...versioned].join() === stamp.pins.join();
  return samePins && existsSync(layout.python) && existsSync(layout.stub);
}

/**
 * Makes `.tools/triton-venv` whole, or finds it so. Built beside its place and renamed into it: it
 * is never half there.
 *
 * @throws ProvisionError whose message says in one line what failed and what to do.
 */
export function setUpTritonVenv(): void {
  if (isReady()) return;
  const python = findPython({ versions: Object.keys(PINS_BY_PYTHON) });
  const pins = [...PINS, ...(PINS_BY_PYTHON[python.version] ?? [])];
  say(`installing ${pins.length} pinned packages, about 90 MB: ${pins.join(' ')}`);
  makePinnedVenv({
    directory: TRITON_VENV_DIRECTORY,
    python,
    pins,
    finish: (directory) => finish(directory, python, pins),
    isReady,
    say,
  });
  say(`ready in ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

if (import.meta.main) {
  try {
    setUpTritonVenv();
  } catch (error) {
    if (!(error instanceof ProvisionError)) throw error;
    console.error(`triton-setup: ${error.message}`);
    process.exit(1);
  }
}
