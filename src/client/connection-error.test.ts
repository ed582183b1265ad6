import { describe, expect, test } from 'bun:test';
import { connectionErrorOf, schemeErrorOf } from './connection-error.ts';

/** What the runtimes threw when they were asked: Bun 1.4, Node 20 and 22, Deno 2.9. */
function fetchFailed(cause: { code?: string; message?: string }): Error {
  return new TypeError('fetch failed', { cause: Object.assign(new Error(cause.message), cause) });
}

const bunError = (code: string, message = ''): Error =>
  Object.assign(new TypeError(message), { code });

describe('connectionErrorOf', () => {
  test.each<[string, boolean, Error]>([
    ['CLIENT_CERTIFICATE_INVALID', false, bunError('DEPTH_ZERO_SELF_SIGNED_CERT')],
    ['CLIENT_CERTIFICATE_INVALID', false, fetchFailed({ code: 'CERT_HAS_EXPIRED' })],
    ['CLIENT_CERTIFICATE_INVALID', false, fetchFailed({ code: 'ERR_TLS_CERT_ALTNAME_INVALID' })],
    ['CLIENT_CERTIFICATE_INVALID', false, fetchFailed({ code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' })],
    [
      'CLIENT_CERTIFICATE_INVALID',
      false,
      fetchFailed({ message: 'client error (Connect): invalid peer certificate: UnknownIssuer' }),
    ],
    ['CLIENT_SCHEME_WRONG', false, bunError('EPROTO', 'EPROTO: The TLS handshake failed.')],
    ['CLIENT_SCHEME_WRONG', false, fetchFailed({ code: 'ERR_SSL_WRONG_VERSION_NUMBER' })],
    [
      'CLIENT_SCHEME_WRONG',
      false,
      fetchFailed({ message: 'received corrupt message of type InvalidContentType' }),
    ],
    ['CLIENT_HOST_UNKNOWN', false, fetchFailed({ code: 'ENOTFOUND' })],
    ['CLIENT_HOST_UNKNOWN', true, fetchFailed({ code: 'EAI_AGAIN' })],
    [
      'CLIENT_HOST_UNKNOWN',
      false,
      fetchFailed({ message: 'dns error: failed to lookup: Name or service not known' }),
    ],
    ['CLIENT_CONNECTION_REFUSED', true, bunError('ECONNREFUSED')],
    [
      'CLIENT_CONNECTION_REFUSED',
      true,
      fetchFailed({ message: 'Connection refused (os error 111)' }),
    ],
    [
      'CLIENT_CONNECTION_REFUSED',
      true,
      new TypeError('fetch failed', {
        cause: new AggregateError([fetchFailed({ code: 'ECONNREFUSED' })]),
      }),
    ],
    ['CLIENT_CONNECTION_FAILED', true, fetchFailed({ code: 'UND_ERR_SOCKET' })],
    ['CLIENT_CONNECTION_FAILED', true, new TypeError('Failed to fetch')],
  ])('%s', (code, retryable, cause) => {
    const error = connectionErrorOf(cause, 'https://vectors.example:8443/encode');
    expect(error).toMatchObject({ code, retryable, cause });
    expect(error.message).toContain('vectors.example');
    expect(error.message).toEndWith('.');
  });

  test('what is no error, and a circle of causes, end too', () => {
    const circle = new Error('a');
    circle.cause = circle;
    for (const cause of [circle, undefined, 'words']) {
      expect(connectionErrorOf(cause, 'http://a').code).toBe('CLIENT_CONNECTION_FAILED');
    }
  });
});

describe('schemeErrorOf', () => {
  const refused = () => Promise.reject(bunError('ECONNREFUSED'));
  const untrusted = () => Promise.reject(bunError('DEPTH_ZERO_SELF_SIGNED_CERT'));

  test('a server that answers by https, trusted or not, is told', async () => {
    for (const ask of [() => Promise.resolve(), untrusted]) {
      const error = await schemeErrorOf('http://a:8443/encode', ask);
      expect(error).toMatchObject({ code: 'CLIENT_SCHEME_WRONG', retryable: false });
      expect(error?.message).toContain('http://a:8443');
    }
  });

  test('one that does not is left to the first error, and https is never asked', async () => {
    expect(await schemeErrorOf('http://a', refused)).toBeUndefined();
    expect(await schemeErrorOf('https://a', untrusted)).toBeUndefined();
  });
});
