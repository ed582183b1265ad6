import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Where the Python of the tests, and the real Triton in it, stand. Git-ignored;
 * `scripts/ci/triton-setup.ts` fills it.
 */
export const TRITON_VENV_DIRECTORY = join(import.meta.dir, '../../../.tools/triton-venv');

/** Written last, so a venv that has it is whole. */
export interface TritonVenvStamp {
  /** Everything that was installed, name and version. */
  readonly pins: readonly string[];
  /** `3.11`. */
  readonly pythonVersion: string;
  /** Where libpython of that version lies, which the backend's stub loads. */
  readonly pythonLibraryDirectory: string;
}

/** Absolute paths into the venv. */
export interface TritonVenv {
  readonly python: string;
  readonly tritonserver: string;
  /** Triton's backend directory; holds `python/` and nothing else. */
  readonly backends: string;
  /** All that a process of the venv needs; nothing of the caller's environment leaks in. */
  readonly environment: Readonly<Record<string, string>>;
}

/** Paths inside a venv at `directory`, whether it exists or not. */
export function tritonVenvLayout(directory: string, stamp: TritonVenvStamp) {
  const site = join(directory, `lib/python${stamp.pythonVersion}/site-packages`);
  const triton = join(site, 'pytriton/tritonserver');
  const libraries = [stamp.pythonLibraryDirectory, join(site, 'nvidia_pytriton.libs')];
  return {
    python: join(directory, 'bin/python'),
    tritonserver: join(triton, 'bin/tritonserver'),
    backends: join(triton, 'backends'),
    shippedStub: join(
      triton,
      `python_backend_stubs/${stamp.pythonVersion}/triton_python_backend_stub`,
    ),
    stub: join(triton, 'backends/python/triton_python_backend_stub'),
    environment: {
      PATH: `${join(directory, 'bin')}:/usr/local/bin:/usr/bin:/bin`,
      LD_LIBRARY_PATH: libraries.join(':'),
      LC_ALL: 'C.UTF-8',
    },
  };
}

/** The stamp of a whole venv at `directory`, or undefined where there is none. */
export function readTritonVenvStamp(directory: string): TritonVenvStamp | undefined {
  const file = join(directory, 'stamp.json');
  if (!existsSync(file)) return undefined;
  return JSON.parse(readFileSync(file, 'utf8')) as TritonVenvStamp;
}

/**
 * The venv that `scripts/ci/triton-setup.ts` made.
 *
 * @throws Error that says what to run, when it was not made yet.
 */
export function tritonVenv(): TritonVenv {
  const stamp = readTritonVenvStamp(TRITON_VENV_DIRECTORY);
  if (stamp === undefined) {
    throw new Error(
      'The Triton of the tests is missing: run `./run.sh test` or `bun scripts/ci/triton-setup.ts`.',
    );
  }
  return tritonVenvLayout(TRITON_VENV_DIRECTORY, stamp);
}
