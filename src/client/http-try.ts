import { APIEncoderError } from './api-encoder-error.ts';
import { openCallScope } from './call-scope.ts';
import type { ClientClock } from './client-clock.ts';
import { errorOfReply } from './error-of-reply.ts';
import { onAbort } from './on-abort.ts';

/** The part of `fetch` that the client uses. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** A request that can be sent again as it is. */
export interface HttpRequest {
  readonly method: 'GET' | 'POST';
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
}

/**
 * Sends a request once.
 *
 * @returns the whole body of a reply with a status of success; owned by the caller.
 * @throws APIEncoderError: the server's error, CLIENT_CONNECTION_FAILED, CLIENT_HTTP_FAILED or
 * CLIENT_TIMEOUT; or the signal's reason.
 */
export async function tryOnce(options: {
  fetch: Fetch;
  request: HttpRequest;
  clock: ClientClock;
  timeoutMs: number;
  signal: AbortSignal;
}): Promise<Uint8Array> {
  const { clock, timeoutMs, signal } = options;
  const scope = openCallScope({ clock, parent: signal });
  const cancelTimer = clock.schedule(timeoutMs, () =>
    scope.end(
      new APIEncoderError('CLIENT_TIMEOUT', `There was no reply within ${timeoutMs} ms.`, {
        retryable: true,
        limit: timeoutMs,
      }),
    ),
  );
  try {
    // The race is for a fetch that is slow to notice its signal: whoever gave up gets on at once.
    return await Promise.race([
      sendAndRead({ ...options, signal: scope.signal }),
      whenAborted(scope.signal),
    ]);
  } catch (error) {
    scope.signal.throwIfAborted();
    if (error instanceof APIEncoderError) throw error;
    throw new APIEncoderError('CLIENT_CONNECTION_FAILED', connectionMessage(options.request), {
      retryable: true,
      cause: error,
    });
  } finally {
    cancelTimer();
    scope.release();
  }
}

async function sendAndRead(options: {
  fetch: Fetch;
  request: HttpRequest;
  signal: AbortSignal;
}): Promise<Uint8Array> {
  const { fetch, request, signal } = options;
  const { url, ...init } = request;
  const response = await fetch(url, { ...init, signal });
  const body = new Uint8Array(await response.arrayBuffer());
  if (response.ok) return body;
  throw errorOfReply({ status: response.status, headers: response.headers, body });
}

function whenAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    onAbort(signal, () => reject(signal.reason));
  });
}

/** Names the server and not the route: the address is what can be wrong. */
function connectionMessage({ url }: HttpRequest): string {
  return `The connection to ${new URL(url).origin} failed or broke off; is the server there?`;
}
