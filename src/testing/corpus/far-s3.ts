import { sleep, systemClock } from '../../base/clock.ts';
import { type RunningS3, startS3 } from './start-s3.ts';

/** A live S3 server that is far away, and says what it was asked. */
export interface FarS3 extends RunningS3 {
  /** How often each method was asked since the start or the last `forget`. */
  readonly asked: Readonly<Record<string, number>>;
  /** Requests that are being answered, and the most that ever were at once. */
  readonly openCount: number;
  readonly openCountMax: number;
  /** Sees each request before it is passed on; a reply of its own stands for the server's. */
  meets: ((method: string, path: string) => Promise<Response | undefined>) | undefined;
  forget(): void;
  /** A client of the server itself, without the way. */
  readonly near: Record<string, string>;
}

/**
 * Starts one with an empty bucket.
 *
 * @param options.delayMs what the way there and back takes each request.
 */
export async function startFarS3(options: { bucket: string; delayMs: number }): Promise<FarS3> {
  const near = await startS3(options.bucket);
  const target = near.environment.AWS_ENDPOINT_URL ?? '';
  let asked: Record<string, number> = {};
  let openCount = 0;
  let openCountMax = 0;
  const server = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    async fetch(request) {
      const { method, headers, url } = request;
      const { pathname, search } = new URL(url);
      asked[method] = (asked[method] ?? 0) + 1;
      openCountMax = Math.max(openCountMax, ++openCount);
      try {
        if (options.delayMs > 0) await sleep(systemClock, options.delayMs);
        const own = await far.meets?.(method, decodeURIComponent(pathname));
        if (own !== undefined) return own;
        headers.delete('host');
        const body =
          method === 'PUT' || method === 'POST' ? await request.arrayBuffer() : undefined;
        const reply = await fetch(`${target}${pathname}${search}`, {
          method,
          headers,
          ...(body === undefined ? {} : { body }),
        });
        // Whole, so that a request is open until its bytes are there.
        const bytes = await reply.arrayBuffer();
        return new Response(method === 'HEAD' ? null : bytes, {
          status: reply.status,
          headers: reply.headers,
        });
      } finally {
        openCount--;
      }
    },
  });
  const url = `http://127.0.0.1:${server.port}`;
  const far: FarS3 = {
    environment: { ...near.environment, AWS_ENDPOINT_URL: url },
    near: near.environment,
    meets: undefined,
    get asked() {
      return asked;
    },
    get openCount() {
      return openCount;
    },
    get openCountMax() {
      return openCountMax;
    },
    forget() {
      asked = {};
      openCountMax = openCount;
    },
    async stop() {
      await server.stop(true);
      await near.stop();
    },
  };
  return far;
}
