#!/usr/bin/env bash
# apache-arrow for JavaScript: numbers that round to a float16 zero become -Infinity or NaN.
#
# Expected: a number below half of the smallest float16 (2^-25, about 3e-8) is stored as 0.
# Seen (apache-arrow 21.2.0, Node): for many such numbers the exponent wraps round, and the column holds
# -Infinity, NaN or a number thousands of times larger. Rows of embeddings have such entries, and one of
# them makes every dot product with that row infinite. Numbers that a float16 can hold come out right, and
# so does a Float16Array or raw bits.
#
# Needs Node with npm. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund apache-arrow@21.2.0 >/dev/null
cat >seen.mjs <<'JS'
import { Float16, vectorFromArray } from 'apache-arrow';

const stored = (x) => Number(vectorFromArray([x], new Float16()).get(0));
const shown = [1e-8, 1.5e-8, 2.3e-9, 2.8e-8, 1e-9].map((x) => [x, stored(x)]);
for (const [x, y] of shown) console.log(`${x} is stored as ${y}`);

// Every finite float16 by its bits, as a number: these must survive.
let lost = 0;
for (let bits = 0; bits < 0x7c00; bits++) {
  const exponent = bits >> 10, fraction = bits & 1023;
  const x = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  if (stored(x) !== x) lost++;
}
// A thousand numbers that should all become 0.
let infinite = 0, nonzero = 0;
for (let step = 1; step <= 1000; step++) {
  const y = stored((step / 1001) * 2 ** -25);
  if (!Number.isFinite(y)) infinite++;
  else if (y !== 0) nonzero++;
}
console.log(`of 1000 numbers below 2^-25: ${infinite} not finite, ${nonzero} not zero; exact float16 lost: ${lost}`);
process.exit(infinite > 0 && lost === 0 ? 0 : 1);
JS
node seen.mjs && echo 'as recorded' || { echo CHANGED; exit 1; }
