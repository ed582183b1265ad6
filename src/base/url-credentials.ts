/**
 * Takes user and password out of a URL: what is left may be shown, and what was taken is sent as a
 * header.
 *
 * @param url with or without credentials, percent-encoded as URLs have them.
 */
export function splitCredentials(url: string): {
  readonly url: string;
  /** Value of an Authorization header. */
  readonly authorization: string | undefined;
} {
  const { username, password } = new URL(url);
  if (username === '' && password === '') return { url, authorization: undefined };
  const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  const authorization = `Basic ${Buffer.from(pair).toString('base64')}`;
  return { url: url.replace(CREDENTIALS, '//'), authorization };
}

/** The text with the credentials of each URL in it masked, for whatever is shown or logged. */
export function maskCredentials(text: string): string {
  return text.replaceAll(CREDENTIALS, '//…@');
}

/** User and password before the host, up to the last `@`, which a careless password may have. */
const CREDENTIALS = /\/\/[^/?#,\s]+@/g;
