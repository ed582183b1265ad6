import { lookup } from 'node:dns/promises';
import { chmodSync, readFileSync, rmSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import type { Elysia } from 'elysia';
import { ConfigError } from '../config/read.ts';
import type { Config } from '../config/settings.ts';
import { bracketed } from './healthcheck.ts';

/**
 * Listens where the settings say: on HOST and PORT or on UNIX_SOCKET, in HTTP or, with TLS_CERT and
 * TLS_KEY, in HTTPS.
 *
 * @returns the address to be told to people: `http://host:port`, `https://…` or `unix:/path`.
 * @throws ConfigError when a certificate or a key cannot be read or used; Error when the address is
 *   taken or not ours.
 */
export async function listen(
  app: Elysia,
  config: Pick<
    Config,
    | 'host'
    | 'port'
    | 'keepAliveMs'
    | 'unixSocket'
    | 'unixSocketMode'
    | 'tlsCert'
    | 'tlsKey'
    | 'serverProcesses'
  >,
): Promise<string> {
  const { host, port, unixSocket, unixSocketMode, tlsCert, tlsKey } = config;
  const isUnix = unixSocket !== '';
  const tls = tlsCert === '' ? {} : { tls: readTls(tlsCert, tlsKey) };
  if (isUnix) await removeAbandonedSocket(unixSocket);
  const common = {
    ...tls,
    idleTimeout: idleSeconds(config.keepAliveMs),
    // The limit is checked by the routes, which answer in our own shape; this one only must not
    // come first.
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    development: false,
    // Two servers on one port would answer in turns, and nobody would know which: only processes
    // of one server share it.
    reusePort: config.serverProcesses > 1,
  } as const;
  const address = isUnix ? { unix: unixSocket } : { hostname: host, port };
  try {
    // Elysia hands them to Bun as they are; its types know of no socket.
    app.listen({ ...address, ...common } as Parameters<Elysia['listen']>[0]);
  } catch (error) {
    const message = (error as Error).message;
    // BoringSSL's words for a certificate that is none, or a key of another one.
    if (tlsCert !== '' && /PEM|X509|TLS|SSL|key values/i.test(message)) {
      throw new ConfigError(`TLS_CERT and TLS_KEY cannot be used: ${message}`);
    }
    throw error;
  }
  if (isUnix) {
    if (unixSocketMode !== '') chmodSync(unixSocket, Number.parseInt(unixSocketMode, 8));
    return `unix:${unixSocket}`;
  }
  return `http${tlsCert === '' ? '' : 's'}://${bracketed(host)}:${app.server?.port ?? port}`;
}

/**
 * Why an address cannot be listened on, in one line that names the setting to change.
 *
 * For a name without an address Bun tells the code of whatever call had failed before it, even
 * EADDRINUSE; so the name is looked up once more.
 */
export async function listenFailure(
  error: NodeJS.ErrnoException,
  { unixSocket, host, port }: Pick<Config, 'unixSocket' | 'host' | 'port'>,
): Promise<string> {
  if (unixSocket !== '') {
    const why = error.code === 'EADDRINUSE' ? 'it is in use' : error.message;
    return `Cannot listen on ${unixSocket}: ${why}. Choose another UNIX_SOCKET.`;
  }
  const code = await lookup(host).then(
    () => error.code,
    () => 'ENOTFOUND',
  );
  const [why, setting] = LISTEN_FAILURES[code ?? ''] ?? [error.message, 'PORT'];
  return `Cannot listen on ${bracketed(host)}:${port}: ${why}. Choose another ${setting}.`;
}

const NO_ADDRESS = ['it is no address of this machine', 'HOST'] as const;

/** Bun's codes, some of which say little, and the setting that is to be changed. */
const LISTEN_FAILURES: Readonly<Record<string, readonly [why: string, setting: 'HOST' | 'PORT']>> =
  {
    EADDRINUSE: ['it is in use', 'PORT'],
    EACCES: ['this user may not', 'PORT'],
    EADDRNOTAVAIL: NO_ADDRESS,
    ENOTFOUND: NO_ADDRESS,
  };

/** Bun's limit, in seconds; of 0 it ends no connection. */
const IDLE_SECONDS_MAX = 255;
/** It looks every so often, so that a connection ends up to so much sooner than it was told. */
const IDLE_STEP_SECONDS = 4;

/** What Bun must be told so that no connection ends before its time, as far as its limit goes. */
function idleSeconds(keepAliveMs: number): number {
  if (keepAliveMs === 0) return 0;
  return Math.min(IDLE_SECONDS_MAX, Math.ceil(keepAliveMs / 1000) + IDLE_STEP_SECONDS);
}

function readTls(certificate: string, key: string): { cert: string; key: string } {
  return { cert: readPem('TLS_CERT', certificate), key: readPem('TLS_KEY', key) };
}

function readPem(setting: string, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new ConfigError(`${setting} cannot be read: ${(error as Error).message}`);
  }
}

/** A server that was killed leaves its socket's file behind, at which nobody answers. */
async function removeAbandonedSocket(path: string): Promise<void> {
  if (!statSync(path, { throwIfNoEntry: false })?.isSocket()) return;
  const isAbandoned = await new Promise<boolean>((resolve) => {
    const socket = connect(path);
    socket.on('connect', () => {
      socket.destroy();
      resolve(false);
    });
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'));
  });
  if (isAbandoned) rmSync(path);
}
