import { APIEncoderError, type ClientErrorCode } from './api-encoder-error.ts';

/**
 * Why there is no reply, as far as the runtime tells. Node and Bun give codes of the system and of
 * OpenSSL, at some depth; Deno gives words alone; a browser tells nothing.
 */

/** One cause of a connection that failed. */
interface Cause {
  readonly code: ClientErrorCode;
  /** Codes of Node and Bun, and words of Deno. */
  readonly pattern: RegExp;
  /** Whether the same call may succeed later. */
  readonly retryable: boolean;
  /** One sentence. */
  readonly say: (url: URL) => string;
}

const CAUSES: readonly Cause[] = [
  {
    code: 'CLIENT_CERTIFICATE_INVALID',
    pattern:
      /\b(?:CERT_\w+|DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_\w*(?:CERT|ISSUER|LEAF)\w*|ERR_TLS_CERT_\w+|HOSTNAME_MISMATCH|INVALID_PURPOSE)\b|invalid peer certificate/,
    retryable: false,
    say: ({ origin }) =>
      `The certificate of ${origin} is not trusted: its authority must be known to this machine ` +
      '(NODE_EXTRA_CA_CERTS, in Deno DENO_CERT), its date must be right, and it must be for ' +
      'this name.',
  },
  {
    code: 'CLIENT_SCHEME_WRONG',
    pattern:
      /\b(?:EPROTO|ERR_SSL_WRONG_VERSION_NUMBER|ERR_SSL_PACKET_LENGTH_TOO_LONG)\b|InvalidContentType/,
    retryable: false,
    say: ({ origin }) =>
      `What listens at ${origin} does not speak TLS: the address begins with http://, or a proxy ` +
      'is in between.',
  },
  {
    code: 'CLIENT_HOST_UNKNOWN',
    pattern: /\bENOTFOUND\b|Name or service not known|nodename nor servname/,
    retryable: false,
    say: ({ hostname }) => `There is no host named ${hostname}.`,
  },
  {
    code: 'CLIENT_HOST_UNKNOWN',
    pattern: /\bEAI_AGAIN\b|failure in name resolution/,
    retryable: true,
    say: ({ hostname }) => `The name ${hostname} could not be looked up: no name server answered.`,
  },
  {
    code: 'CLIENT_CONNECTION_REFUSED',
    pattern: /\bECONNREFUSED\b|Connection refused/,
    // A server that starts again refuses for a moment.
    retryable: true,
    say: ({ origin }) => `Nothing listens at ${origin}: the connection was refused.`,
  },
];

/** @param error what `fetch` has thrown, or the reading of the body. */
export function connectionErrorOf(error: unknown, address: string): APIEncoderError {
  const url = new URL(address);
  const told = wordsOf(error);
  const cause = CAUSES.find(({ pattern }) => pattern.test(told));
  if (cause !== undefined) {
    const { code, retryable, say } = cause;
    return new APIEncoderError(code, say(url), { retryable, cause: error });
  }
  const message = `The connection to ${url.origin} failed or broke off before the reply was whole.`;
  return new APIEncoderError('CLIENT_CONNECTION_FAILED', message, {
    retryable: true,
    cause: error,
  });
}

/**
 * How deep causes are looked for. Node's `fetch` has two levels, and a list where a host has
 * several addresses.
 */
const DEPTH_MAX = 4;

/** All codes and messages of an error and of its causes. */
function wordsOf(error: unknown, depth = 0): string {
  if (typeof error !== 'object' || error === null || depth === DEPTH_MAX) return '';
  const { code, message, cause, errors } = error as Record<string, unknown>;
  const causes = [cause, ...(Array.isArray(errors) ? errors : [])];
  return [code, message, ...causes.map((each) => wordsOf(each, depth + 1))].join(' ');
}

/**
 * Says that an http address belongs to a server that speaks TLS, if it does. Such a server drops
 * plain HTTP without a word, as one does that dies; so the same address is asked once by https.
 *
 * @param ask sends a request by https and resolves with its reply.
 * @returns undefined when the connection broke for another reason.
 */
export async function schemeErrorOf(
  address: string,
  ask: (url: string) => Promise<unknown>,
): Promise<APIEncoderError | undefined> {
  const { protocol, origin, host } = new URL(address);
  if (protocol !== 'http:') return undefined;
  const url = `https://${host}/health`;
  const speaksTls = await ask(url).then(
    () => true,
    (error) => connectionErrorOf(error, url).code === 'CLIENT_CERTIFICATE_INVALID',
  );
  if (!speaksTls) return undefined;
  const message = `What listens at ${origin} speaks TLS: the address begins with https://.`;
  return new APIEncoderError('CLIENT_SCHEME_WRONG', message);
}
