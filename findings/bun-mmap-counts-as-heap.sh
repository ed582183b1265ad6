#!/usr/bin/env bash
# Bun: the length of a mapped file counts as used heap, so a large mapping lets as much garbage stand.
#
# Expected: mapping a file costs address space. Memory in use should not change before pages are touched,
# and what the program allocates beside it should be collected as before.
# Seen (Bun 1.4.5): after `Bun.mmap` of a sparse file of 512 MB, of which no page is touched, a loop that drops
# buffers of 100 kB holds 300 MB and more of garbage, where it held under 100 MB without the mapping.
# `process.memoryUsage()` tells the cause: `external` and `arrayBuffers` contain the whole mapping. The same
# holds for memory that comes by `toArrayBuffer` of bun:ffi. Shared memory with another process is where it
# hurts: a ring sized for the largest message makes the process look as if it leaked its small ones.
#
# Needs Linux and Node with npm. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund bun@1.4.5 >/dev/null
cat >seen.mjs <<'JS'
import { closeSync, ftruncateSync, openSync, readFileSync } from 'node:fs';

const MB = 1 << 20;
const mapped = Number(process.argv[2]) * MB;
const file = openSync('sparse', 'w');
ftruncateSync(file, mapped);
closeSync(file);
const region = mapped === 0 ? undefined : Bun.mmap('sparse', { shared: true });
const anonymous = () => Number(/RssAnon:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) / 1024;
let most = 0;
for (let at = 0; at < 20_000; at++) {
  new Uint8Array(100_000).fill(at);
  if (at % 10 === 0) {
    await new Promise((resolve) => setImmediate(resolve));
    most = Math.max(most, anonymous());
  }
}
const { external, arrayBuffers } = process.memoryUsage();
const sizes = [most, external / MB, arrayBuffers / MB].map(Math.round);
console.log(JSON.stringify({ bun: Bun.version, mapped: (region?.length ?? 0) / MB, sizes }));
JS
npx bun seen.mjs 0 | tee without.json
npx bun seen.mjs 512 | tee with.json
python3 - <<'PY'
import json
without, mapped = (json.load(open(name + ".json"))["sizes"] for name in ("without", "with"))
print("most anonymous memory in MB: %d without a mapping, %d beside 512 MB" % (without[0], mapped[0]))
print("counted as external in MB: %d and %d" % (without[1], mapped[1]))
as_seen = without[0] < 100 and mapped[0] > 250 and mapped[1] >= 512
print("as seen" if as_seen else "CHANGED")
raise SystemExit(0 if as_seen else 1)
PY
