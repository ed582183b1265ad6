import { afterEach, expect, test } from 'bun:test';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkHealth } from './healthcheck.ts';

/** What the image and Compose ask: wherever a server listens, its own settings find it. */

const TLS = join(import.meta.dir, '../testing/http/tls');
const ended: (() => unknown)[] = [];

afterEach(async () => {
  for (const end of ended.splice(0)) await end();
});

const NOWHERE = { host: '127.0.0.1', port: 0, tlsCert: '', unixSocket: '' };

function listenAt(options: object, status = 200) {
  const fetch = ({ url }: Request): Response =>
    new Response(null, { status: new URL(url).pathname === '/ready' ? status : 404 });
  const server = Bun.serve({ port: 0, ...options, fetch } as Parameters<typeof Bun.serve>[0]);
  ended.push(() => server.stop(true));
  return server.port ?? 0;
}

test.each([
  ['127.0.0.1', '127.0.0.1'],
  ['0.0.0.0', '0.0.0.0'],
  ['::', '::'],
  ['::1', '::1'],
  ['localhost', 'localhost'],
])('HOST %s', async (host, hostname) => {
  const port = listenAt({ hostname });
  expect(await checkHealth({ ...NOWHERE, host, port })).toBe(0);
});

test('HTTPS, whoever signed the certificate', async () => {
  const tlsCert = join(TLS, 'test-certificate.pem');
  const tls = { cert: readFileSync(tlsCert), key: readFileSync(join(TLS, 'test-key.pem')) };
  const port = listenAt({ hostname: '127.0.0.1', tls });
  expect(await checkHealth({ ...NOWHERE, port, tlsCert })).toBe(0);
});

test('a Unix socket', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'health-'));
  ended.push(() => rmSync(folder, { recursive: true }));
  const unixSocket = join(folder, 'socket');
  listenAt({ port: undefined, unix: unixSocket });
  expect(await checkHealth({ ...NOWHERE, unixSocket })).toBe(0);
});

test('not ready, or nobody there: 1', async () => {
  const port = listenAt({ hostname: '127.0.0.1' }, 503);
  expect(await checkHealth({ ...NOWHERE, port })).toBe(1);
  await ended.pop()?.();
  expect(await checkHealth({ ...NOWHERE, port })).toBe(1);
});
