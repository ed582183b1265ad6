/** A forward proxy of the loopback that writes down what it was asked for. */
export interface RecordingProxy {
  readonly url: string;
  /** The URL of each request, oldest first. */
  readonly asked: readonly string[];
  stop(): Promise<void>;
}

/** Passes requests on to where they are meant for, by HTTP alone: no CONNECT. */
export function startRecordingProxy(): RecordingProxy {
  const asked: string[] = [];
  const server = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    async fetch(request) {
      asked.push(request.url);
      const { method, headers } = request;
      const body = method === 'GET' ? undefined : await request.arrayBuffer();
      const direct: object = { method, headers, body, proxy: false, redirect: 'manual' };
      return await fetch(request.url, direct);
    },
  });
  return {
    url: `http://127.0.0.1:${server.port}`,
    asked,
    stop: () => server.stop(true),
  };
}
