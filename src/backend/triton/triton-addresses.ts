import { isIP } from 'node:net';
import type { Clock } from '../../base/clock.ts';
import { describeError, type Log } from '../../base/log.ts';
import { splitCredentials } from '../../base/url-credentials.ts';

/** Where one Triton server is. */
export interface TritonAddress {
  /** `http://10.0.0.7:8000`: of a name with several addresses, one of them. */
  readonly url: string;
  /** Value of the Host header where the address stands for a name. */
  readonly host: string | undefined;
  /** Value of the Authorization header; the URL itself may be shown. */
  readonly authorization: string | undefined;
}

/** All addresses of a name, as text. Rejects when there are none. */
export type ResolveName = (name: string) => Promise<readonly string[]>;

/**
 * Follows the addresses of the servers. A name may have several, each a server of its own, and they
 * may change: it is asked again and again. Numbers, and names behind TLS (a certificate is made out
 * for the name), stay as they are.
 *
 * @param options.resolveMs how often names are asked; 0 leaves names to the connection, as one
 * server each.
 * @param options.onChange gets every address whenever the set has changed, at once for what needs
 * no asking.
 * @returns a function that ends it.
 */
export function followAddresses(options: {
  urls: readonly string[];
  resolve: ResolveName;
  resolveMs: number;
  clock: Clock;
  log: Log;
  onChange: (addresses: readonly TritonAddress[]) => void;
}): () => void {
  const { urls, resolve, resolveMs, clock, log } = options;
  const isName = (url: URL): boolean =>
    resolveMs > 0 && url.protocol === 'http:' && isIP(url.hostname.replace(/^\[|\]$/g, '')) === 0;
  const known = new Map<string, readonly TritonAddress[]>();
  let isEnded = false;
  let cancel: () => void = () => undefined;

  for (const url of urls) {
    if (!isName(new URL(url))) known.set(url, [{ ...splitCredentials(url), host: undefined }]);
  }
  const names = urls.filter((url) => !known.has(url));
  if (known.size > 0) tell();
  if (names.length > 0) void askAll();

  function tell(): void {
    options.onChange(urls.flatMap((url) => known.get(url) ?? []));
  }

  async function askAll(): Promise<void> {
    const changes = await Promise.all(names.map(ask));
    if (isEnded) return;
    if (changes.includes(true)) tell();
    cancel = clock.schedule(resolveMs, () => void askAll());
  }

  /**
   * @returns whether the addresses have changed. A name that cannot be resolved keeps those it had.
   */
  async function ask(named: string): Promise<boolean> {
    const url = new URL(named);
    try {
      const found = [...(await resolve(url.hostname))].sort();
      const port = url.port === '' ? '' : `:${url.port}`;
      const addresses = found.map((address) => ({
        url: `http://${isIP(address) === 6 ? `[${address}]` : address}${port}`,
        host: url.host,
        authorization: splitCredentials(named).authorization,
      }));
      const before = known.get(named)?.map((address) => address.url);
      if (`${before}` === `${addresses.map((address) => address.url)}`) return false;
      log.info('triton-addresses', { name: url.hostname, addresses: found.join(', ') });
      known.set(named, addresses);
      return true;
    } catch (error) {
      log.warn('triton-name-unknown', { name: url.hostname, reason: describeError(error) });
      return false;
    }
  }

  return () => {
    isEnded = true;
    cancel();
  };
}
