import { expect, test } from 'bun:test';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { portableClock } from '../../client/cancellation.ts';
import { until } from '../../testing/until.ts';
import { startOwnServer } from './own-server.ts';

/** Takes connections, notes that it was asked, and answers nothing. */
const SILENT = `Bun.serve({
  unix: process.env.UNIX_SOCKET,
  fetch: async () => {
    await Bun.write(process.env.ASKED, '');
    return new Promise(() => {});
  },
});`;

test('a server of our own that answers nothing holds up no end of the job', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'own-server-'));
  try {
    const entry = join(folder, 'silent.ts');
    const asked = join(folder, 'asked');
    await Bun.write(entry, SILENT);
    const job = new AbortController();
    const started = startOwnServer({
      ...{ entry, clock: portableClock, signal: job.signal },
      environment: { ...process.env, ASKED: asked },
    }).catch((error: unknown) => error);
    await until('it is asked', () => existsSync(asked));
    const reason = new Error('stopped');
    job.abort(reason);
    expect(await started).toBe(reason);
  } finally {
    await rm(folder, { recursive: true });
  }
});
