import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Elysia } from 'elysia';
import { ConfigError, readConfig } from '../../config/read.ts';
import { listen, listenFailure } from '../../serve/listen.ts';
import { startHeadsServer } from '../clients/heads-server.ts';

/**
 * Where the server listens: TLS and a Unix socket. The certificate is for this test and nothing
 * else.
 */

setDefaultTimeout(60_000);

const TLS = join(import.meta.dir, 'tls');
const CERTIFICATE = join(TLS, 'test-certificate.pem');
const KEY = join(TLS, 'test-key.pem');

let dir: string;

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'listen-'));
});

afterAll(() => rmSync(dir, { recursive: true, force: true }));

function app(): Elysia {
  const made = new Elysia();
  made.get('/', () => 'here');
  return made;
}

/** What `listen` needs, from the settings. */
const settings = (environment: Record<string, string>) => ({
  ...readConfig(environment),
  host: '127.0.0.1',
  port: 0,
});

describe('an address that cannot be listened on', () => {
  const why = (code: string, host: string) =>
    listenFailure(Object.assign(new Error(code), { code }), { unixSocket: '', host, port: 0 });

  test('a name without an address is told as one, whatever code Bun has for it', async () => {
    for (const code of ['EADDRINUSE', 'EACCES', 'EINVAL', 'ENOTFOUND']) {
      expect(await why(code, 'no-such-host.invalid')).toBe(
        'Cannot listen on no-such-host.invalid:0: it is no address of this machine. ' +
          'Choose another HOST.',
      );
    }
  });

  test('a port that is taken, and an address of another machine', async () => {
    expect(await why('EADDRINUSE', '127.0.0.1')).toEndWith('it is in use. Choose another PORT.');
    expect(await why('EADDRNOTAVAIL', '192.0.2.1')).toEndWith('Choose another HOST.');
    expect(await why('EADDRINUSE', '::1')).toStartWith('Cannot listen on [::1]:0: it is in use');
  });
});

describe('TLS', () => {
  test('the whole server answers over HTTPS, to who trusts its certificate', async () => {
    const ca = readFileSync(CERTIFICATE, 'utf8');
    const server = await startHeadsServer(
      { TLS_CERT: CERTIFICATE, TLS_KEY: KEY },
      { fetch: (url) => fetch(url, { tls: { ca } }) },
    );
    try {
      expect(server.url).toStartWith('https://127.0.0.1:');
      const init = { method: 'POST', body: '{"query":"тест"}', tls: { ca } };
      expect((await fetch(`${server.url}/encode`, init)).status).toBe(200);
      const untrusting = await fetch(`${server.url}/health`).catch((error) => error.code);
      expect(untrusting).toBe('DEPTH_ZERO_SELF_SIGNED_CERT');
      const plain = server.url.replace('https', 'http');
      expect(await fetch(`${plain}/health`).catch(() => 'refused')).toBe('refused');
    } finally {
      await server.close();
    }
  });

  test('one file without the other is refused', () => {
    expect(() => readConfig({ TLS_CERT: CERTIFICATE })).toThrow('TLS_KEY');
    expect(() => readConfig({ TLS_KEY: KEY })).toThrow('TLS_CERT');
  });

  test.each([
    ['no certificate', join(TLS, 'nowhere.pem'), KEY, 'TLS_CERT cannot be read'],
    ['no key', CERTIFICATE, join(TLS, 'nowhere.pem'), 'TLS_KEY cannot be read'],
    ['a key that is none', CERTIFICATE, import.meta.path, 'cannot be used'],
    ['the key of another', CERTIFICATE, join(TLS, 'other-key.pem'), 'cannot be used'],
  ])('%s ends the start', async (_what, certificate, key, says) => {
    const config = settings({ TLS_CERT: certificate, TLS_KEY: key });
    const error = await listen(app(), config).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as Error).message).toContain(says);
  });
});

describe('IPv6', () => {
  test.each([
    ['', ['[::1]', '127.0.0.1']],
    ['::', ['[::1]', '127.0.0.1']],
    ['::1', ['[::1]']],
    ['127.0.0.1', ['127.0.0.1']],
  ])('HOST "%s" is reached at %j, and told with brackets', async (host, hosts) => {
    const one = app();
    const address = await listen(one, { ...readConfig({ HOST: host }), port: 0 });
    expect(URL.canParse(address)).toBe(true);
    for (const each of hosts) {
      const reply = await fetch(`http://${each}:${one.server?.port}/`);
      expect(await reply.text()).toBe('here');
    }
    await one.server?.stop(true);
  });
});

describe('a Unix socket', () => {
  const ask = (path: string) =>
    fetch('http://encoder/', { unix: path }).then((reply) => reply.text());

  test('takes the place of the port, and is gone at the end', async () => {
    const path = join(dir, 'encoder.sock');
    const one = app();
    expect(await listen(one, settings({ UNIX_SOCKET: path }))).toBe(`unix:${path}`);
    expect(await ask(path)).toBe('here');
    const second = listen(app(), settings({ UNIX_SOCKET: path }));
    expect((await second.catch((error) => error)).message).toContain('EADDRINUSE');
    expect(await ask(path)).toBe('here');
    await one.server?.stop(true);
    expect(existsSync(path)).toBe(false);
  });

  test('its rights are those of the setting', async () => {
    for (const [mode, rights] of [
      ['660', 0o660],
      ['0600', 0o600],
    ] as const) {
      const path = join(dir, `rights-${mode}.sock`);
      const served = app();
      await listen(served, settings({ UNIX_SOCKET: path, UNIX_SOCKET_MODE: mode }));
      expect(statSync(path).mode & 0o777).toBe(rights);
      await served.server?.stop(true);
    }
    expect(() => readConfig({ UNIX_SOCKET_MODE: '999' })).toThrow('three octal digits');
  });

  test('one that a killed server left is taken over; another file is not', async () => {
    const path = join(dir, 'left.sock');
    // Ends without closing what it listens on.
    const script = `Bun.listen({ unix: ${JSON.stringify(path)}, socket: { data() {} } }); process.kill(process.pid, 'SIGKILL');`;
    await Bun.spawn([process.execPath, '-e', script]).exited;
    expect(statSync(path).isSocket()).toBe(true);
    const next = app();
    await listen(next, settings({ UNIX_SOCKET: path }));
    expect(await ask(path)).toBe('here');
    await next.server?.stop(true);
    const file = join(dir, 'file');
    writeFileSync(file, 'mine');
    expect(listen(app(), settings({ UNIX_SOCKET: file }))).rejects.toThrow();
    expect(readFileSync(file, 'utf8')).toBe('mine');
  });
});

test('a silent connection ends after KEEP_ALIVE_MS, and no sooner', async () => {
  const [short, long] = [app(), app()];
  await listen(short, settings({ KEEP_ALIVE_MS: '1000', REQUEST_TIMEOUT_MS: '500' }));
  await listen(long, settings({ KEEP_ALIVE_MS: '0' }));
  const held = await Promise.all([short, long].map(({ server }) => keptConnection(server?.port)));
  const [ends, stays] = held;
  expect(await Promise.race([ends.closed, stays.closed])).toBe(ends.port);
  expect(stays.socket.destroyed).toBe(false);
  expect(ends.silentMs()).toBeGreaterThan(1000);
  stays.socket.destroy();
  await Promise.all([short.server?.stop(true), long.server?.stop(true)]);
});

// The runtime looks at its connections every four seconds, whenever they became silent.
test.each([
  [0, 0],
  [1_000, 5],
  [61_000, 65],
  [255_000, 255],
])('of a silence of %i ms the runtime is told as %i s', async (keepAliveMs, seconds) => {
  let told: unknown;
  const served = { listen: (options: unknown) => (told = options), server: null };
  await listen(served as unknown as Elysia, { ...settings({}), keepAliveMs });
  expect(told).toMatchObject({ idleTimeout: seconds });
});

/** A connection on which one request was answered, and nothing is sent any more. */
async function keptConnection(port = 0) {
  const socket = connect(port, '127.0.0.1');
  socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  const closed = new Promise<number>((resolve) => socket.on('close', () => resolve(port)));
  const [reply] = await once(socket, 'data');
  expect(String(reply)).toStartWith('HTTP/1.1 200');
  const startMs = performance.now();
  return { port, socket, closed, silentMs: () => performance.now() - startMs };
}

test('a port that is taken is not shared', async () => {
  const one = app();
  await listen(one, settings({}));
  const port = one.server?.port ?? 0;
  const second = await listen(app(), { ...settings({}), port }).catch((error) => error);
  expect(second.message).toContain('in use');
  await one.server?.stop(true);
});
