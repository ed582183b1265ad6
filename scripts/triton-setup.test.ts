import { expect, setDefaultTimeout, test } from 'bun:test';
import { cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

// Making a venv takes seconds, and more on a busy machine.
setDefaultTimeout(60_000);

const ROOT = join(import.meta.dir, '..');

async function runSetup(options: { root: string; settings?: readonly string[] }) {
  const { root, settings = [] } = options;
  const script = join(root, 'scripts/triton-setup.ts');
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

test('without a package index it fails in one line and leaves nothing half made', async () => {
  const root = mkdtempSync(join(tmpdir(), 'triton-setup-'));
  try {
    for (const file of [
      'scripts/triton-setup.ts',
      'scripts/setup/step-error.ts',
      'src/testing/triton/triton-venv.ts',
    ]) {
      cpSync(join(ROOT, file), join(root, file));
    }
    const settings = ['PIP_NO_INDEX=1', 'PIP_FIND_LINKS='];
    const { errors, code } = await runSetup({ root, settings });
    expect(code).toBe(1);
    expect(errors).toMatch(/^triton-setup: pip install failed \(.*nvidia-pytriton.*\): .*\n$/);
    expect(readdirSync(join(root, '.tools'))).toEqual([]);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});
