import { expect, test } from 'bun:test';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ROOT = join(import.meta.dir, '../..');

async function runSetup(options: { root: string; settings?: readonly string[] }) {
  const { root, settings = [] } = options;
  const script = join(root, 'scripts/ci/triton-setup.ts');
  const child = Bun.spawn(['env', ...settings, process.execPath, script], {
    stdout: 'pipe',
    stderr: 'pipe',
  });
  const [out, errors, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { out, errors, code };
}

test('it does nothing where the venv stands', async () => {
  expect(await runSetup({ root: ROOT })).toEqual({ out: '', errors: '', code: 0 });
});

/** Says yes to everything but an install. */
const PYTHON_WITHOUT_INDEX = `#!/bin/sh
case "$2" in
  venv) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  pip) echo 'WARNING: offline' >&2; echo 'ERROR: no index has nvidia-pytriton' >&2; exit 1 ;;
  *) echo '{"version": "3.11", "directory": "/usr/lib", "library": true, "kind": "CPython",
    "platform": "linux x86_64", "venv": true}' ;;
esac
`;

test('where pip fails it says so in one line and leaves nothing half made', async () => {
  const root = mkdtempSync(join(tmpdir(), 'triton-setup-'));
  try {
    for (const file of [
      'scripts/ci/triton-setup.ts',

      'src/provision/setup/python-venv.ts',
      'src/provision/run-command.ts',
      'src/provision/provision-error.ts',
      'src/testing/triton/triton-venv.ts',
    ]) {
      cpSync(join(ROOT, file), join(root, file));
    }
    writeFileSync(join(root, 'python3'), PYTHON_WITHOUT_INDEX, { mode: 0o755 });
    // As a set-up that was killed leaves it: no process has so large an id.
    mkdirSync(join(root, '.tools/triton-venv.partial-999999999'), { recursive: true });
    const { errors, code } = await runSetup({ root, settings: [`PATH=${root}:/usr/bin:/bin`] });
    expect(code).toBe(1);
    expect(errors).toMatch(
      /^triton-setup: pip install failed \(ERROR: no index has nvidia-pytriton\): .*\n$/,
    );
    expect(readdirSync(join(root, '.tools'))).toEqual([]);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});
