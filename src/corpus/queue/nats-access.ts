import { readFileSync } from 'node:fs';
import {
  credsAuthenticator,
  type NodeConnectionOptions,
  nkeyAuthenticator,
} from '@nats-io/transport-node';
import { CorpusError, wordsOf } from '../corpus-error.ts';

/** How a queue is reached, and as whom. */
export interface NatsAccess {
  readonly options: NodeConnectionOptions;
  /** The addresses without what is secret, for messages. */
  readonly shown: string;
}

/**
 * Reads who we are to a queue: from its address, as `nats://user:password@host` or
 * `nats://token@host`, or from the environment as the `nats` program reads it. The client itself
 * takes neither. Addresses of a cluster are joined by commas.
 *
 * @throws CorpusError CORPUS_FLAG_INVALID where a file of it cannot be read.
 */
export function natsAccess(
  url: string,
  environment: Readonly<Record<string, string | undefined>>,
): NatsAccess {
  const given = url.split(',').map((server) => server.trim());
  const servers = given.map((server) => server.replace(SECRET, '$1'));
  const secret = given.map((server) => SECRET.exec(server)?.[2]).find((one) => one !== undefined);
  const { NATS_USER, NATS_PASSWORD, NATS_TOKEN } = environment;
  const { user, pass, token } =
    secret === undefined
      ? { user: NATS_USER, pass: NATS_PASSWORD, token: NATS_TOKEN }
      : fromAddress(secret);
  const { NATS_CREDS, NATS_NKEY, NATS_CA, NATS_CERT, NATS_KEY } = environment;
  const tls = {
    ...(NATS_CA ? { caFile: NATS_CA } : {}),
    ...(NATS_CERT ? { certFile: NATS_CERT } : {}),
    ...(NATS_KEY ? { keyFile: NATS_KEY } : {}),
  };
  const isTls = Object.keys(tls).length > 0 || servers.some((server) => server.startsWith('tls:'));
  return {
    shown: servers.join(','),
    options: {
      servers,
      ...(user ? { user, pass: pass ?? '' } : {}),
      ...(token ? { token } : {}),
      ...(NATS_CREDS
        ? { authenticator: credsAuthenticator(fileOf('NATS_CREDS', NATS_CREDS)) }
        : {}),
      ...(NATS_NKEY ? { authenticator: nkeyAuthenticator(seedOf(NATS_NKEY)) } : {}),
      ...(isTls ? { tls } : {}),
    },
  };
}

/** What stands before the host. A password may have any letter in it, so up to the last @. */
const SECRET = /^(\w+:\/\/)?(.*)@/s;

function fromAddress(secret: string): { user?: string; pass?: string; token?: string } {
  const [name = '', ...rest] = secret.split(':');
  if (rest.length === 0) return { token: plainOf(name) };
  return { user: plainOf(name), pass: plainOf(rest.join(':')) };
}

/** A letter may be written as %40 is for @; a password with % in it may be meant as it stands. */
function plainOf(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** An nkey is given as a file or, as its seed, by itself. */
function seedOf(given: string): Uint8Array {
  if (/^S[A-Z2-7]{50,}$/.test(given)) return Buffer.from(given);
  return Buffer.from(fileOf('NATS_NKEY', given).toString().trim());
}

function fileOf(name: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    const message = `${name}: ${path} cannot be read: ${wordsOf(error)}.`;
    throw new CorpusError('CORPUS_FLAG_INVALID', message, error);
  }
}
