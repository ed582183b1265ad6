import { directFetch } from '../base/direct-fetch.ts';
import type { Config } from '../config/settings.ts';
import { say } from './exit-status.ts';

/** How long a health check waits for the server, in ms: less than the image and Compose give it. */
const TIMEOUT_MS = 4000;

/**
 * Asks the server of these settings, on this machine, whether it is ready: wherever it listens, in
 * HTTP or HTTPS, and never through a proxy.
 *
 * @returns the exit status: 0 when it is ready, otherwise 1, and why on standard error.
 */
export async function checkHealth(
  config: Pick<Config, 'host' | 'port' | 'tlsCert' | 'unixSocket'>,
): Promise<number> {
  const { host, port, tlsCert, unixSocket } = config;
  const url = `http${tlsCert === '' ? '' : 's'}://${loopbackOf(host)}:${port}/ready`;
  const where = {
    // The certificate is the server's own: who asks here does not ask who it is.
    tls: { rejectUnauthorized: false },
    ...(unixSocket === '' ? {} : { unix: unixSocket }),
  };
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const reply = await directFetch(url, { ...where, signal });
    const said = await reply.text();
    if (reply.ok) return 0;
    say(`${url}: ${reply.status} ${said}`);
  } catch (error) {
    say(`${unixSocket || url}: ${(error as Error).message}`);
  }
  return 1;
}

/** An address that stands for all of the machine's is none to call. */
function loopbackOf(host: string): string {
  if (host === '::') return '[::1]';
  if (host === '0.0.0.0') return '127.0.0.1';
  return bracketed(host);
}

/** An address as a URL has it. */
export function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
