import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCommandSync } from './start-process.ts';

/**
 * How a server of several processes refuses to start.
 *
 * Faults that were planted by hand, and that this suite caught: the port tried in a way that
 * shares it, embedded allowed, a hopeless start tried again.
 */

setDefaultTimeout(60_000);

const MODELS = join(import.meta.dir, '../../../models');
/** Nobody is there: a start does not wait for Triton. */
const SETTINGS = {
  SERVER_PROCESSES: '2',
  TOKENIZER_WORKERS: '1',
  TRITON_URL: 'http://127.0.0.1:9',
};

describe('a start of two processes that cannot work', () => {
  test.each([true, false])('a port that is taken, shared %p: exit status 3', async (isShared) => {
    const other = Bun.serve({
      hostname: '127.0.0.1',
      port: 0,
      reusePort: isShared,
      fetch: () => new Response(),
    });
    try {
      const settings = { ...SETTINGS, PORT: String(other.port) };
      const { status, stderr } = await runCommandSync(settings);
      expect(status).toBe(3);
      expect(stderr).toContain(`127.0.0.1:${other.port}`);
    } finally {
      await other.stop(true);
    }
  });

  test('embedded: exit status 2, and why', async () => {
    const { status, stderr } = await runCommandSync({ SERVER_PROCESSES: '2' });
    expect(status).toBe(2);
    expect(stderr).toBe(
      'SERVER_PROCESSES (2) above 1 needs BACKEND triton: embedded, each process would load the ' +
        'model for itself and compute on the same cores; EMBEDDED_SLOTS shares them out.\n',
    );
  });

  test('what a process finds wrong with its settings is told once: exit status 2', async () => {
    const settings = { ...SETTINGS, TLS_CERT: 'none.pem', TLS_KEY: 'none' };
    const { status, stderr } = await runCommandSync(settings);
    expect(status).toBe(2);
    expect(stderr.match(/TLS_CERT cannot be read/g)).toHaveLength(1);
  });

  test('no tokenizer: exit status 4', async () => {
    const models = mkdtempSync(join(tmpdir(), 'no-tokenizer-'));
    try {
      copyFileSync(join(MODELS, 'bge-m3.json'), join(models, 'bge-m3.json'));
      const settings = { ...SETTINGS, MODELS_DIR: models };
      const { status, stderr } = await runCommandSync(settings);
      expect(status).toBe(4);
      expect(stderr).toContain('tokenizer.json');
    } finally {
      rmSync(models, { recursive: true, force: true });
    }
  });
});
