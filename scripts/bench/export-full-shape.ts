/**
 * Holds the export against a model of BGE-M3's full shape, with random weights: makes one, exports
 * it, states the export's peak memory, and lets ONNX Runtime answer a text with all heads.
 *
 * Needs 7 GB of disk, and
 * for 8,192 tokens about 16 GB of memory, most of it for one layer's attention. Not part of the
 * tests: it takes minutes.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/base/clock.ts';
import { createOnnxSession, type ModelOutput } from '../../src/provision/onnx/onnx-session.ts';
import { FULL_SHAPE, writeEncoderModel } from '../../src/testing/export/full-shape-model.ts';
import { count, readFlags, text } from '../flags.ts';

const values = readFlags(import.meta.path, {
  folder: text('FOLDER', '', 'where everything is left; without it, it is deleted in the end'),
  tokens: count(8192, [3, 8192], 'tokens of the text'),
});
const folder = values.folder || mkdtempSync(join(tmpdir(), 'full-shape-'));
const tokenCount = values.tokens;
const startedMs = systemClock.now();

function say(line: string): void {
  const seconds = ((systemClock.now() - startedMs) / 1000).toFixed(0);
  process.stdout.write(`${seconds.padStart(5)} s  ${line}\n`);
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}

/** The most memory that this process ever held; the system counts it in kilobytes. */
function ownPeak(): string {
  return megabytes(process.resourceUsage().maxRSS * 1024);
}

/** Runs the export in a process of its own and returns the most memory that it ever held. */
async function exportModel(source: string): Promise<number> {
  const models = join(folder, 'models');
  mkdirSync(join(models, 'bge_model'), { recursive: true });
  const root = join(import.meta.dir, '../..');
  const manifest = JSON.parse(readFileSync(join(root, 'models/bge-m3.json'), 'utf8'));
  manifest.source.files = ['onnx/model.onnx', 'sparse_linear.pt', 'colbert_linear.pt'].map(
    (path) => ({ path }),
  );
  writeFileSync(join(models, 'bge-m3.json'), JSON.stringify(manifest));
  const config = readFileSync(join(root, 'models/bge_model/config.pbtxt'));
  writeFileSync(join(models, 'bge_model/config.pbtxt'), config);
  const script = join(root, 'src/provision/export.ts');
  const line = ['--from', source, '--models-dir', models, '--graph-only'];
  const child = Bun.spawn([process.execPath, script, ...line], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if ((await child.exited) !== 0) throw new Error('the export failed');
  return child.resourceUsage()?.maxRSS ?? Number.NaN;
}

function check(name: string, output: ModelOutput | undefined, rowLength: number): void {
  if (!output) throw new Error(`no output ${name}`);
  const finite = output.values.every(Number.isFinite);
  let worst = 0;
  for (let start = 0; rowLength > 1 && start < output.values.length; start += rowLength) {
    const row = output.values.subarray(start, start + rowLength);
    worst = Math.max(worst, Math.abs(Math.hypot(...row) - 1));
  }
  const lengths = rowLength > 1 ? `, lengths within ${worst.toExponential(1)} of one` : '';
  say(`${name} [${output.dims}]: ${finite ? 'all finite' : 'NOT FINITE'}${lengths}`);
  if (!finite || worst > 1e-4) throw new Error(`${name} is wrong`);
}

try {
  const source = join(folder, 'source');
  if (!existsSync(join(source, 'colbert_linear.pt'))) {
    writeEncoderModel(source, FULL_SHAPE);
    say(`made the model; this process peaked at ${ownPeak()}`);
  }
  say(`exported; the export peaked at ${megabytes(await exportModel(source))}`);
  const model = await createOnnxSession(join(folder, 'models/bge-m3/onnx/model.onnx'));
  say('ONNX Runtime has loaded the float32 graph');
  const ids = Array.from({ length: tokenCount }, (_, index) => 4 + ((index * 7_919) % 249_997));
  ids[0] = 0;
  ids[tokenCount - 1] = 2;
  const answer = await model.run([ids]);
  check('dense_vecs', answer.get('dense_vecs'), FULL_SHAPE.hidden);
  check('sparse_vecs', answer.get('sparse_vecs'), 1);
  check('colbert_vecs', answer.get('colbert_vecs'), FULL_SHAPE.hidden);
  say(`answered ${tokenCount} tokens; this process peaked at ${ownPeak()}`);
  await model.close();
} finally {
  if (!values.folder) rmSync(folder, { recursive: true, force: true });
}
