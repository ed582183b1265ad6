#!/usr/bin/env bash
# Bun: a function that takes an array apart anywhere before a loop runs the loop at a third of its speed.
#
# Expected: `let [a, b] = [0, 0]` is another way to write `let a = 0; let b = 0`, as it is for Node: it runs
# once a call, and the loop after it knows nothing of it.
# Seen (Bun 1.4.5): four sums of squares over 1,024 float32 values take 2.5 to 3.2 times as long when one or more of
# the sums come out of an array pattern. It is the function that is slow and not the variables: copying them into
# others first changes nothing. Taking the same values out of an object, or by index, costs nothing.
# Node 20 takes the same time for all of them. A loop over numbers therefore wants a function without array patterns.
#
# Needs Node with npm. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund bun@1.4.5 >/dev/null
cat >seen.mjs <<'JS'
const starts = {
  apart: 'let a = 0; let b = 0; let c = 0; let d = 0;',
  array: 'let [a, b, c, d] = [0, 0, 0, 0];',
  oneOfFour: 'let [a] = [0]; let b = 0; let c = 0; let d = 0;',
  copied: 'const [p, q, s, t] = [0, 0, 0, 0]; let a = p; let b = q; let c = s; let d = t;',
  object: 'let { a, b, c, d } = { a: 0, b: 0, c: 0, d: 0 };',
  byIndex: 'const z = [0, 0, 0, 0]; let a = z[0]; let b = z[1]; let c = z[2]; let d = z[3];',
};
const loop = `for (let i = 0; i + 4 <= row.length; i += 4) {
  a += row[i] * row[i]; b += row[i + 1] * row[i + 1];
  c += row[i + 2] * row[i + 2]; d += row[i + 3] * row[i + 3];
} return a + b + c + d;`;
const row = Float32Array.from({ length: 1024 }, (_, at) => Math.sin(at));
const forms = Object.entries(starts).map(([name, start]) => [name, new Function('row', start + loop)]);
const time = (form) => {
  const startMs = performance.now();
  for (let call = 0; call < 5000; call++) form(row);
  return performance.now() - startMs;
};
for (const [, form] of forms) for (let turn = 0; turn < 3; turn++) time(form);
const turns = Array.from({ length: 9 }, () => forms.map(([, form]) => time(form)));
const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];
const ratios = forms.map(([name], at) => [name, median(turns.map((turn) => turn[at] / turn[0]))]);
console.log(JSON.stringify({ version: process.versions.bun ?? process.version, ...Object.fromEntries(ratios) }));
JS
npx bun seen.mjs | tee bun.json
node seen.mjs | tee node.json
node -e '
const [bun, node] = ["bun.json", "node.json"].map((name) => JSON.parse(require("fs").readFileSync(name)));
const slow = ["array", "oneOfFour", "copied"].every((name) => bun[name] > 1.8 && node[name] < 1.4);
const fast = ["object", "byIndex"].every((name) => bun[name] < 1.4);
if (!slow || !fast) { console.log("It behaves otherwise now."); process.exit(1); }
console.log("As described: array patterns slow the loops after them in Bun alone.");'
