import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { type Log, ProvisionError } from '../provision-error.ts';
import { runCommandSync } from '../run-command.ts';

/** A Python that the tests' Triton can use. */
export interface Python {
  readonly command: string;
  readonly version: string;
  readonly directory: string;
}

/**
 * In order of preference. The bare names follow the PATH; the last finds the system's behind a
 * version manager's shim.
 */
const PYTHON_CANDIDATES = [
  'python3',
  'python3.12',
  'python3.11',
  'python3.10',
  'python3.9',
  'python3.13',
  '/usr/bin/python3',
];

/**
 * Says, as JSON, what a Python offers. The wheel brings libpython for 3.13 alone, so the others
 * must have theirs.
 */
const PROBE = `
import ctypes, json, os, platform, sys, sysconfig
version = "%d.%d" % sys.version_info[:2]
directory = sysconfig.get_config_var("LIBDIR") or ""
name = "libpython%s.so.1.0" % version
def has(module):
    try: __import__(module); return True
    except ImportError: return False
def library():
    if version == "3.13" or os.path.exists(os.path.join(directory, name)): return True
    try: ctypes.CDLL(name); return True
    except OSError: return False
print(json.dumps({
    "version": version, "directory": directory, "library": library(),
    "kind": platform.python_implementation(), "platform": sys.platform + " " + platform.machine(),
    "venv": has("venv") and has("ensurepip")}))
`;

interface Probe {
  readonly version: string;
  readonly directory: string;
  readonly library: boolean;
  readonly kind: string;
  readonly platform: string;
  readonly venv: boolean;
}

/**
 * Finds a Python that can make a venv and that the backend's stub can load.
 *
 * @param options.versions those that will do: `3.11`.
 * @param options.candidates commands to try in this order; by default those of this system.
 * @throws ProvisionError that says what the first of them lacks, or that there is none.
 */
export function findPython(options: {
  versions: readonly string[];
  candidates?: readonly string[];
}): Python {
  const { versions, candidates = PYTHON_CANDIDATES } = options;
  const objections: string[] = [];
  for (const command of candidates) {
    if (Bun.which(command) === null) continue;
    const { exitCode, out } = runCommandSync([command, '-c', PROBE]);
    // A version manager's shim for a version that is not switched on.
    if (exitCode !== 0) continue;
    const probe = JSON.parse(out) as Probe;
    const wrong = objection({ command, probe, versions });
    if (wrong === undefined) {
      return { command, version: probe.version, directory: probe.directory };
    }
    objections.push(wrong);
  }
  throw new ProvisionError(
    objections[0] ??
      'Python 3 is missing: apt-get install python3 python3-venv (CPython 3.9 to 3.13)',
  );
}

/** Why a Python will not do, or undefined when it will. */
function objection(options: {
  command: string;
  probe: Probe;
  versions: readonly string[];
}): string | undefined {
  const { command, probe, versions } = options;
  const { version } = probe;
  if (probe.platform !== 'linux x86_64') {
    return `the Triton wheel is for linux x86_64, this is ${probe.platform}`;
  }
  if (probe.kind !== 'CPython' || !versions.includes(version)) {
    return `${command} is ${probe.kind} ${version}; apt-get install python3 (CPython 3.9 to 3.13)`;
  }
  if (!probe.venv) {
    return `${command} (${version}) cannot make a venv: apt-get install python3-venv`;
  }
  if (!probe.library) {
    return `${command} has no libpython${version}.so.1.0: apt-get install libpython${version}`;
  }
  return undefined;
}

/**
 * Makes a Python venv with exactly the packages that are named, beside its place, and renames it
 * into it: it is never half there. What set-ups that were killed have left there is removed.
 *
 * @param options.pins name and version of every package, dependencies too; nothing is resolved.
 * @param options.sources packages that have no wheel: they are built with the setuptools that
 *   `pins` name, and not kept in pip's cache.
 * @param options.anyPython installs also packages that say that they are for a newer Python: some
 *   say less than they can. `finish` must then import them.
 * @param options.finish completes and checks the new venv, and writes its stamp.
 * @param options.isReady whether another set-up was faster.
 * @throws ProvisionError whose message says in one line what failed and what to do.
 */
export function makePinnedVenv(options: {
  directory: string;
  python: Python;
  pins: readonly string[];
  sources?: readonly string[];
  anyPython?: boolean;
  finish: (directory: string) => void;
  isReady: () => boolean;
  say: Log;
}): void {
  const {
    directory,
    python,
    pins,
    sources = [],
    anyPython = false,
    finish,
    isReady,
    say,
  } = options;
  const partial = `${directory}.partial-${process.pid}`;
  mkdirSync(dirname(partial), { recursive: true });
  removeAbandoned(directory);
  try {
    say(`making a venv with ${python.command} (${python.version})`);
    const made = runCommandSync([python.command, '-m', 'venv', partial]);
    if (made.exitCode !== 0) {
      const why = (made.errors || made.out).trim().split('\n').at(-1);
      throw new ProvisionError(
        `${python.command} -m venv failed (${why}): apt-get install python3-venv`,
      );
    }
    const flags = anyPython ? ['--ignore-requires-python'] : [];
    install(partial, ['--only-binary=:all:', ...flags, ...pins]);
    if (sources.length > 0) {
      const built = ['--no-binary=:all:', '--no-build-isolation', '--no-cache-dir'];
      install(partial, [...built, ...flags, ...sources]);
    }
    finish(partial);
    // Another set-up may have been faster; tests may run in its venv by now.
    if (isReady()) return;
    rmSync(directory, { recursive: true, force: true });
    renameSync(partial, directory);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
}

function install(directory: string, words: readonly string[]): void {
  const { exitCode, errors } = runCommandSync([
    join(directory, 'bin/python'),
    ...['-m', 'pip', 'install', '--no-deps', '--no-compile', '--quiet'],
    ...['--disable-pip-version-check', ...words],
  ]);
  if (exitCode === 0) return;
  const lines = errors.trim().split('\n');
  const why = lines.findLast((line) => line.startsWith('ERROR')) ?? lines.at(-1);
  throw new ProvisionError(`pip install failed (${why}): check the network and pip's own settings`);
}

/**
 * Removes what set-ups of this venv that were killed left beside it, a quarter of a gigabyte each.
 */
function removeAbandoned(directory: string): void {
  const start = `${basename(directory)}.partial-`;
  for (const name of readdirSync(dirname(directory))) {
    const pid = name.startsWith(start) ? name.slice(start.length) : '';
    if (/^\d+$/.test(pid) && !existsSync(`/proc/${pid}`)) {
      rmSync(join(dirname(directory), name), { recursive: true, force: true });
    }
  }
}
