#!/usr/bin/env bash
# Bun.serve: `idleTimeout` is an upper bound, and connections end up to four seconds sooner.
#
# Expected: with `idleTimeout: 8` a kept connection that is silent stays for eight seconds, so that a balancer in
# front that reuses its connections for seven seconds never meets one that ends.
# Seen (Bun 1.4.5): connections are looked at every four seconds, whenever they became silent, and the number is
# rounded up to such steps. With 8 connections end after 4.1 to 8 s, with 5 after 4.1 to 8, with 1 after 0.1 to 4. So
# an idle time of 61 s behind a balancer that keeps its own for 60 ends some connections just as they are used. To be safe
# the number must be larger by four, which the limit of 255 allows up to 251.
#
# Needs Node with npm. Takes half a minute. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund bun@1.4.5 >/dev/null
cat >seen.mjs <<'JS'
import { once } from 'node:events';
import { connect } from 'node:net';

async function silence(port) {
  const socket = connect(port, '127.0.0.1');
  socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await once(socket, 'data');
  const start = performance.now();
  await once(socket, 'close');
  return (performance.now() - start) / 1000;
}

const seen = {};
for (const idleTimeout of [1, 5, 8]) {
  const server = Bun.serve({ port: 0, hostname: '127.0.0.1', idleTimeout, fetch: () => new Response('a') });
  const all = [];
  // Twelve connections, each a little later than the one before: any phase of the four seconds.
  for (let at = 0; at < 12; at++) {
    all.push(silence(server.port));
    await Bun.sleep(350);
  }
  const seconds = await Promise.all(all);
  seen[idleTimeout] = [Math.min(...seconds), Math.max(...seconds)].map((one) => Number(one.toFixed(1)));
  await server.stop(true);
}
console.log(JSON.stringify({ bun: Bun.version, idleTimeoutToSeconds: seen }));
const isAsSeen = Object.entries(seen).every(([told, [least, most]]) => least < told - 0.2 && most > told - 0.5);
console.log(isAsSeen ? 'as seen' : 'CHANGED');
process.exit(isAsSeen ? 0 : 1);
JS
npx bun seen.mjs
