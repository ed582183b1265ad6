import { ProvisionError } from '../provision-error.ts';
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
