#!/usr/bin/env bash
# Bun's zlib.createZstdDecompress: a file that breaks off ends without an error, and so do bytes of something else.
#
# Expected: an error at the end of bytes that stop within a frame, as createGunzip of Bun gives one ("unexpected end of
# file") and as `zstd -d` says; an error, too, where something that is no frame follows a frame.
# Seen (Bun 1.4.5): of a file of two frames whose last is cut the stream gives the first one's content and ends well,
# so a download that broke off is a shorter file. Bytes after the last frame are passed over.
#
# Needs Node with npm. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund bun@1.4.5 >/dev/null
cat >seen.mjs <<'JS'
import { Readable } from 'node:stream';
import zlib from 'node:zlib';

const text = Buffer.from(Array.from({ length: 5000 }, (_, at) => `line ${at * 7919}\n`).join(''));
async function read(packed, unpack) {
  let length = 0;
  try {
    for await (const piece of Readable.from([packed]).pipe(unpack)) length += piece.length;
    return `${length} bytes, no error`;
  } catch (error) {
    return `error: ${error.message}`;
  }
}
const zstd = zlib.zstdCompressSync(text);
const gzip = zlib.gzipSync(text);
const cut = await read(Buffer.concat([zstd, zstd.subarray(0, -10)]), zlib.createZstdDecompress());
const other = await read(Buffer.concat([zstd, Buffer.from('garbage')]), zlib.createZstdDecompress());
const cutGzip = await read(Buffer.concat([gzip, gzip.subarray(0, -10)]), zlib.createGunzip());
console.log(`Bun ${Bun.version}, two frames of ${text.length} bytes, the last cut: ${cut}`);
console.log(`a frame and something else: ${other}`);
console.log(`two members of gzip, the last cut: ${cutGzip}`);
const isAsSeen = cut.endsWith('no error') && other.endsWith('no error') && cutGzip.startsWith('error');
console.log(isAsSeen ? 'as seen' : 'CHANGED');
process.exit(isAsSeen ? 0 : 1);
JS
npx bun seen.mjs
