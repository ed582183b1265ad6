import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What the hub does to one request instead of answering it well. */
export interface HubFault {
  /** Answers so and sends nothing. */
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Cuts the connection after so many bytes of the body. */
  readonly cutAfterBytes?: number;
  /**
   * Ends the body after so many bytes as if it were whole, in chunks, so that its length is not
   * said.
   */
  readonly endAfterBytes?: number;
  /** Sends so many bytes of the body and then nothing, with the connection open. */
  readonly stallAfterBytes?: number;
  /** Answers the whole file whatever range was asked for. */
  readonly ignoreRange?: boolean;
  /** Flips a bit of the byte at this place of the file. */
  readonly flipByteAt?: number;
}

/** One request as the hub saw it. */
export interface SeenRequest {
  readonly path: string;
  readonly range: string | undefined;
  readonly acceptEncoding: string | undefined;
}

export interface LoopbackHub {
  /** `http://127.0.0.1:<port>`. */
  readonly url: string;
  readonly requests: readonly SeenRequest[];
  /** Serves `content` for `owner/name/resolve/<revision>/<path>`. */
  put(options: { repository: string; revision: string; path: string; content: Uint8Array }): void;
  /** Decides what is done to each request for a file's bytes, in the order in which they come. */
  setFault(choose: ((request: SeenRequest) => HubFault | undefined) | undefined): void;
  /** Cuts every open connection, whatever it is in the middle of. */
  cutConnections(): void;
  close(): Promise<void>;
}

/**
 * Files of at least so many bytes are "large": a redirect, and sha256 instead of git's hash, as on
 * the public hub.
 */
const LARGE_BYTES = 1_000;

/**
 * A model hub on loopback, with the habits of the public one: large files are redirected and tagged
 * with sha256, small ones come directly, tagged as git tags blobs. It records what it is asked.
 */
export async function startLoopbackHub(): Promise<LoopbackHub> {
  const files = new Map<string, Uint8Array>();
  const requests: SeenRequest[] = [];
  let choose: ((request: SeenRequest) => HubFault | undefined) | undefined;
  const server = createServer((request, response) => {
    const path = decodeURIComponent((request.url ?? '').replace(/^\/store/, ''));
    const content = files.get(path);
    const isStore = request.url?.startsWith('/store/') ?? false;
    if (content === undefined) {
      response.writeHead(404).end('Entry not found');
      return;
    }
    if (content.length >= LARGE_BYTES && !isStore) {
      const headers = {
        location: `/store${request.url}`,
        'x-linked-etag': `"${createHash('sha256').update(content).digest('hex')}"`,
      };
      response.writeHead(302, headers).end();
      return;
    }
    const seen = {
      path,
      range: request.headers.range,
      acceptEncoding: String(request.headers['accept-encoding']),
    };
    requests.push(seen);
    answer({ request, response, content, fault: choose?.(seen) ?? {} });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    put: ({ repository, revision, path, content }) => {
      files.set(`/${repository}/resolve/${revision}/${path}`, content);
    },
    setFault: (next) => {
      choose = next;
    },
    cutConnections: () => server.closeAllConnections(),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function answer(options: {
  request: IncomingMessage;
  response: ServerResponse;
  content: Uint8Array;
  fault: HubFault;
}): void {
  const { request, response, fault } = options;
  if (fault.status !== undefined) {
    response.writeHead(fault.status, { ...fault.headers }).end();
    return;
  }
  const content = flipped(options.content, fault.flipByteAt);
  const range = fault.ignoreRange ? null : /^bytes=(\d+)-$/.exec(request.headers.range ?? '');
  const start = Number(range?.[1] ?? 0);
  const total = content.length;
  if (range && start >= total) {
    response.writeHead(416, { 'content-range': `bytes */${total}` }).end();
    return;
  }
  const body = content.subarray(start);
  const blob = createHash('sha1').update(`blob ${total}\0`).update(options.content);
  response.writeHead(range ? 206 : 200, {
    ...(fault.endAfterBytes === undefined ? { 'content-length': body.length } : {}),
    etag: `"${total < LARGE_BYTES ? blob.digest('hex') : 'of-the-store'}"`,
    ...(range ? { 'content-range': `bytes ${start}-${total - 1}/${total}` } : {}),
    ...fault.headers,
  });
  if (fault.cutAfterBytes !== undefined) {
    // The bytes must reach the socket before it is torn down.
    response.write(body.subarray(0, fault.cutAfterBytes), () => response.socket?.destroy());
  } else if (fault.stallAfterBytes !== undefined) {
    response.write(body.subarray(0, fault.stallAfterBytes));
  } else response.end(body.subarray(0, fault.endAfterBytes));
}

function flipped(content: Uint8Array, at: number | undefined): Uint8Array {
  if (at === undefined) return content;
  const copy = content.slice();
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
}
