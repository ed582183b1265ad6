/**
 * The least that a reply costs: a server of Bun that reads a request and sends so many bytes.
 *
 *     bun scripts/bench/bare/bare-reply-server.ts BYTES
 *
 * It writes its address to standard output, and ends when its input does.
 */
const [bytes = '0'] = process.argv.slice(2);
const body = new Uint8Array(Number(bytes)).map((_, at) => at * 7);
const headers = { 'content-type': 'application/msgpack' };
const server = Bun.serve({
  port: 0,
  hostname: '127.0.0.1',
  async fetch(request) {
    await request.text();
    return new Response(body, { headers });
  },
});
console.log(server.url.origin);
process.stdin.on('end', () => server.stop(true)).resume();
