#!/usr/bin/env bash
# Bun: an asynchronous handler's reply of more than 15 kB has its head sent in twenty system calls.
#
# Expected: status line and header fields leave in one piece, as those of smaller replies do.
# Seen (Bun 1.4.5): where a handler returns a `Response` of bytes after an `await`, and the body has more than
# 15,360 bytes, each name, each ": ", each value and each line end of the head is a `sendto` of its own, with
# TCP_NODELAY a packet of its own. A reply of 16,000 bytes costs the server some four times the processor time of
# one of 15,000. The same bytes as a direct stream, written once and below its `highWaterMark`, leave with their
# head in one piece, and with a Content-Length.
#
# Needs Linux and Node with npm. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund bun@1.4.5 >/dev/null
cat >server.mjs <<'JS'
const [kind, length] = [process.argv[2], Number(process.argv[3])];
const bytes = new Uint8Array(length);
const pull = (controller) => {
  controller.write(bytes);
  controller.end();
};
const bodyOf = {
  bytes: () => bytes,
  stream: () => new ReadableStream({ type: 'direct', pull }, { highWaterMark: length + 1 }),
}[kind];
const server = Bun.serve({
  hostname: '127.0.0.1',
  port: 0,
  async fetch() {
    await new Promise((resolve) => setImmediate(resolve));
    return new Response(bodyOf(), { headers: { 'x-one': '1', 'x-two': '2' } });
  },
});
console.log(server.port);
process.on('SIGTERM', () => {
  const { user, system } = process.cpuUsage();
  console.log(user + system);
  process.exit();
});
JS
cat >seen.mjs <<'JS'
const REPLIES = 4000;
async function microsecondsOf(kind, length) {
  const child = Bun.spawn([process.execPath, 'server.mjs', kind, String(length)], { stdout: 'pipe' });
  const lines = child.stdout.getReader();
  const next = async () => Number(new TextDecoder().decode((await lines.read()).value));
  const address = `http://127.0.0.1:${await next()}/`;
  let headers;
  for (let at = 0; at < REPLIES; at++) {
    const reply = await fetch(address);
    ({ headers } = reply);
    await reply.bytes();
  }
  child.kill('SIGTERM');
  const us = Math.round((await next()) / REPLIES);
  console.log(JSON.stringify({ kind, length, us, contentLength: headers.get('content-length') }));
  return us;
}
const small = await microsecondsOf('bytes', 15_000);
const large = await microsecondsOf('bytes', 16_000);
const stream = await microsecondsOf('stream', 16_000);
const asSeen = large > 1.5 * small && large > 1.5 * stream;
console.log(asSeen ? 'as seen' : 'CHANGED');
process.exit(asSeen ? 0 : 1);
JS
npx bun seen.mjs
