/**
 * Kills a corpus job, its server or both, at random moments, and compares the bytes with those of a
 * run that nobody disturbed. Half of its texts lie in small files of every kind, which change,
 * vanish and come to it on the way.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { killAtRandom } from '../../src/testing/corpus/kill-at-random.ts';
import { writeMixed } from '../../src/testing/corpus/small-files.ts';
import { legalTexts } from '../../src/testing/legal-texts.ts';
import { count, readFlags, SEED } from '../flags.ts';

const values = readFlags(import.meta.path, {
  kills: count(200, [1, 1_000_000], 'kills, of the command, its server or both'),
  seed: SEED,
  texts: count(1500, [32, 1_000_000], 'texts of the corpus'),
  'chunk-tokens': count(
    0,
    [0, 512],
    'tokens of a chunk, of texts that are longer then; 0: no chunks',
  ),
});
const seed = values.seed;
const folder = mkdtempSync(join(tmpdir(), 'corpus-kills-'));
try {
  const { 'chunk-tokens': chunkTokens } = values;
  const factor = chunkTokens === 0 ? 1 : 8;
  const counts = Array.from({ length: values.texts }, (_, index) => factor * (4 + (index % 20)));
  const overlap = String(chunkTokens >> 3);
  const chunks = [
    '--chunk-tokens',
    String(chunkTokens),
    '--chunk-overlap',
    overlap,
    '--chunk-text',
  ];
  const source = join(folder, 'laws');
  const texts = legalTexts(counts, seed);
  await writeMixed(
    source,
    texts.map((text, index) => ({ id: `law-${index}`, text })),
  );
  const startMs = performance.now();
  const report = await killAtRandom({
    source,
    words: [
      ...['--id', 'id', '--part-texts', '32', '--request-texts', '8'],
      ...(chunkTokens === 0 ? [] : chunks),
    ],
    folder,
    environment: { BACKEND: 'embedded' },
    killCount: values.kills,
    seed,
    say: (line) => console.log(line),
  });
  const seconds = ((performance.now() - startMs) / 1000).toFixed(0);
  console.log(JSON.stringify({ ...report, seconds: Number(seconds) }, null, 2));
  const faults = report.differing.length + report.orphans + report.left.length;
  process.exitCode = faults > 0 ? 1 : 0;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
