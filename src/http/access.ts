import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { BlockList, isIP } from 'node:net';
import { cors } from '@elysiajs/cors';
import type { Elysia } from 'elysia';
import { ServerError } from '../base/errors.ts';
import { ConfigError } from '../config/read.ts';
import { SECRET, SECRET_WANTED } from '../config/setting-kinds.ts';
import type { Config } from '../config/settings.ts';
import { pathOf } from './request.ts';

/** Says whose request it is; undefined where that is not known, as on a Unix socket. */
export type CallerOf = (request: Request) => string | undefined;

/** How long a browser may cache a CORS preflight, in s: two hours, the most in Chromium. */
const PREFLIGHT_SECONDS = 7200;

/** Who may pass, and who they are. */
export interface Access {
  /** For fair shares: the name of the caller's key, or else its address. */
  readonly callerOf: CallerOf;
  /** Why a request that no route answers is refused, EMB_KEY_INVALID; undefined when it may pass. */
  refusalOf(request: Request): ServerError | undefined;
  /** That a request was made of another one, whose connection it came by. */
  standsFor(request: Request, original: Request): void;
  /** Whether a call of this route must bring a key. */
  needsKey(method: string, path: string): boolean;
}

/**
 * Adds what every request passes before its route: CORS, then the API key. Each is added only when
 * it is set, so that it costs nothing otherwise. To be called before any route is added.
 *
 * A browser asks about CORS without a key, and must be able to read why a key was refused.
 *
 * @throws ConfigError as `createApiKeys`.
 */
export function addAccess(app: Elysia, config: Config): Access {
  if (config.corsOrigins.length > 0) {
    app.use(
      cors({
        origin: [...config.corsOrigins],
        methods: ['GET', 'POST'],
        // OpenAI's client alone sends a dozen of its own. The star leaves out authorization.
        allowedHeaders: ['*', 'authorization'],
        exposeHeaders: ['*'],
        credentials: false,
        maxAge: PREFLIGHT_SECONDS,
      }),
    );
  }
  const originals = new WeakMap<Request, Request>();
  const standsFor = (request: Request, original: Request): void => {
    originals.set(request, original);
  };
  const connected: CallerOf = (request) =>
    app.server?.requestIP(originals.get(request) ?? request)?.address;
  const callerAddress = createCallerAddress(config.trustedProxies);
  const addressOf: CallerOf =
    config.trustedProxies.length === 0
      ? connected
      : (request) => callerAddress(connected(request), request.headers.get('x-forwarded-for'));
  const keys = createApiKeys(config);
  if (keys === undefined) {
    return { callerOf: addressOf, refusalOf: () => undefined, standsFor, needsKey: () => false };
  }
  app.onBeforeHandle(({ request, route }) => {
    const refusal = keys.refusalOf(request, route);
    if (refusal !== undefined) throw refusal;
  });
  return {
    callerOf: (request) => keys.nameOf(request) ?? addressOf(request),
    refusalOf: (request) => keys.refusalOf(request, undefined),
    standsFor,
    needsKey: (method, path) => !isRead(method) || !keys.isListed(path),
  };
}

/** Finds the address of who sent a request, from who is connected and X-Forwarded-For. */
type CallerAddress = (peer: string | undefined, forwardedFor: string | null) => string | undefined;

/**
 * Behind a proxy everybody comes from one address, and would be one caller. A proxy adds to
 * X-Forwarded-For whom it was called by, at the right; what stands to the left of that came with
 * the call and may be made up. So it is read from the right, as far as those who wrote it are
 * trusted: the first who is no trusted proxy is the caller.
 *
 * `Forwarded` is not read. A proxy that writes the one header passes the other on as it came, and
 * whoever calls could then choose who it is.
 *
 * @param trusted addresses, networks like `10.0.0.0/8`, and `unix` for the Unix socket, where no
 * peer has an address. Empty: nobody is believed.
 */
export function createCallerAddress(trusted: readonly string[]): CallerAddress {
  const proxies = new BlockList();
  for (const word of trusted) {
    if (word === 'unix') continue;
    const [address = '', bits] = word.split('/');
    const family = familyOf(address);
    if (bits === undefined) proxies.addAddress(address, family);
    else proxies.addSubnet(address, Number(bits), family);
  }
  const trustsSocket = trusted.includes('unix');
  const isTrusted = (address: string): boolean => proxies.check(address, familyOf(address));

  return (connected, forwardedFor) => {
    const peer = connected === undefined ? undefined : plainAddress(connected);
    const isBelieved = peer === undefined ? trustsSocket : isTrusted(peer);
    if (!isBelieved || forwardedFor === null) return peer;
    let caller = peer;
    for (const entry of forwardedFor.split(',').reverse()) {
      const address = plainAddress(entry.trim());
      // What names nobody ends it: whoever wrote it is the last that is known.
      if (address === undefined) return caller;
      caller = address;
      if (!isTrusted(address)) return caller;
    }
    return caller;
  };
}

const familyOf = (address: string): 'ipv4' | 'ipv6' => (isIP(address) === 6 ? 'ipv6' : 'ipv4');

/** Without a port, brackets, or the form that IPv6 has for an address of IPv4. */
function plainAddress(entry: string): string | undefined {
  const bare = /^\[(.*)\](?::\d+)?$/.exec(entry)?.[1] ?? entry.replace(/^([\d.]+):\d+$/, '$1');
  const address = bare.replace(/^::ffff:(?=\d+\.)/i, '');
  return isIP(address) === 0 ? undefined : address;
}

/** Decides whether a request may pass. */
interface ApiKeys {
  /**
   * Why the request is refused: EMB_KEY_INVALID; undefined when it may pass.
   *
   * @param route the one that was matched, as a pattern; undefined when there is none.
   */
  refusalOf(request: Request, route: string | undefined): ServerError | undefined;
  /** Whether KEYLESS_PATHS has this path. */
  isListed(path: string): boolean;
  /** Whose request it is: `key-1` for the first key; undefined without a key. */
  nameOf(request: Request): string | undefined;
}

/**
 * The keys of API_KEYS and of API_KEYS_FILE; undefined when there are none, and no key is needed.
 *
 * A key comes as `Authorization: Bearer …` or as `x-api-key`. It is compared by hash, with every
 * key and to the end, so that the time tells nothing of them.
 *
 * @throws ConfigError when the file cannot be read, holds no key, or something that is no key.
 */
function createApiKeys(config: Config): ApiKeys | undefined {
  const { apiKeysFile, keylessPaths } = config;
  const keys = [...config.apiKeys, ...(apiKeysFile === '' ? [] : keysInFile(apiKeysFile))];
  if (keys.length === 0) return undefined;
  const hashes = keys.map(hashOf);
  const exact = new Set(keylessPaths.filter((path) => !path.endsWith('*')));
  const prefixes = keylessPaths
    .filter((path) => path.endsWith('*'))
    .map((path) => path.slice(0, -1));

  function isListed(path: string): boolean {
    return exact.has(path) || prefixes.some((prefix) => path.startsWith(prefix));
  }

  /**
   * By the route that will answer, since a path may be spelt in ways that a router reads otherwise.
   * Work comes by POST, at `/` and below a listed prefix too; only what is read may be open. Where
   * no route answers, whoever may read there is told so, key or not.
   */
  function isKeyless(request: Request, route: string | undefined): boolean {
    if (route === undefined) return isListed(pathOf(request));
    return isRead(request.method) && isListed(route.includes(':') ? pathOf(request) : route);
  }

  /** Number of the key that the request brings, from 1; 0 when it brings none of ours. */
  function numberOf(request: Request): number {
    let found = 0;
    for (const key of keysOf(request)) {
      const hash = hashOf(key);
      hashes.forEach((known, index) => {
        if (timingSafeEqual(known, hash)) found = index + 1;
      });
    }
    return found;
  }

  return {
    isListed,
    nameOf(request) {
      const number = numberOf(request);
      return number === 0 ? undefined : `key-${number}`;
    },
    refusalOf(request, route) {
      if (numberOf(request) > 0 || isKeyless(request, route)) return undefined;
      const message =
        keysOf(request).length === 0
          ? 'This server wants an API key: Authorization: Bearer KEY, or x-api-key: KEY.'
          : 'The API key is not one of this server.';
      return new ServerError('EMB_KEY_INVALID', message, { field: 'authorization' });
    },
  };
}

function isRead(method: string): boolean {
  return method === 'GET' || method === 'HEAD';
}

function hashOf(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

/**
 * Any of the headers will do: a client may be made to send the one, and a gateway adds the other.
 * `api-key` is Azure's.
 */
function keysOf({ headers }: Request): readonly string[] {
  const bearer = /^Bearer +(\S+) *$/i.exec(headers.get('authorization') ?? '')?.[1];
  return [bearer, headers.get('x-api-key'), headers.get('api-key')].filter(
    (key) => typeof key === 'string',
  );
}

function keysInFile(path: string): readonly string[] {
  let content: string;
  try {
    content = readFileSync(path, 'utf8');
  } catch (error) {
    throw new ConfigError(`API_KEYS_FILE cannot be read: ${(error as Error).message}`);
  }
  const lines = content.split('\n').map((line) => line.trim());
  const keys = lines.filter((line) => line !== '' && !line.startsWith('#'));
  if (keys.length === 0) throw new ConfigError(`API_KEYS_FILE ${path} holds no key.`);
  const wrong = lines.findIndex((line) => keys.includes(line) && !SECRET.test(line));
  if (wrong < 0) return keys;
  throw new ConfigError(`API_KEYS_FILE ${path} must hold ${SECRET_WANTED}: line ${wrong + 1}.`);
}
