import { createServer, type Server, type Socket } from 'node:net';

/** One request, whole, as it came over the wire. */
export interface RawRequest {
  readonly method: string;
  readonly path: string;
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: Buffer;
  /** Which connection it came on, counted from 1: tells a pooled connection from a fresh one. */
  readonly connectionIndex: number;
}

/** An HTTP/1.1 server on a free port of the loopback whose answers are bytes, right or wrong. */
export interface RawHttpServer {
  readonly port: number;
  /** Connections that are open. */
  readonly connectionCount: number;
  /** Ends every connection; the port is free then. */
  stop(): Promise<void>;
}

/**
 * Starts one. A web framework answers only what is well formed; this one sends, or keeps back, what
 * it is told.
 *
 * @param options.port a port of an earlier server, to stand in for a restart; 0 for a free one.
 * @param options.onRequest answers by writing to the socket, or never. What it throws is kept from
 * the peer and recorded.
 */
export async function startRawHttpServer(options: {
  port: number;
  onRequest: (request: RawRequest, socket: Socket) => void;
  onProblem: (problem: string) => void;
}): Promise<RawHttpServer> {
  const sockets = new Set<Socket>();
  let connectionCount = 0;
  const server = createServer((socket) => {
    const connectionIndex = ++connectionCount;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    // The peer may reset a connection at any time; that is its right.
    socket.on('error', () => socket.destroy());
    let received = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      for (;;) {
        const parsed = parseRequest(received, connectionIndex);
        if (parsed === undefined) return;
        received = parsed.rest;
        try {
          options.onRequest(parsed.request, socket);
        } catch (error) {
          options.onProblem(String(error));
        }
      }
    });
  });
  await listen(server, options.port);
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    port: address.port,
    get connectionCount() {
      return sockets.size;
    },
    stop() {
      const closed = new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
      for (const socket of sockets) socket.destroy();
      return closed;
    },
  };
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve());
  });
}

/** The first whole request and what follows it; undefined while it is not all there. */
function parseRequest(
  received: Buffer<ArrayBuffer>,
  connectionIndex: number,
): { request: RawRequest; rest: Buffer<ArrayBuffer> } | undefined {
  const end = received.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const [first = '', ...lines] = received.subarray(0, end).toString('latin1').split('\r\n');
  const headers = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(':');
    headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
  }
  const bodyEnd = end + 4 + Number(headers.get('content-length') ?? 0);
  if (received.length < bodyEnd) return undefined;
  const [method = '', path = ''] = first.split(' ');
  const body = received.subarray(end + 4, bodyEnd);
  const request = { method, path, headers, body, connectionIndex };
  return { request, rest: received.subarray(bodyEnd) };
}
