/**
 * A corpus of small objects in a bucket that is far away, small parts into one, and small files of
 * a disk: `bun scripts/bench/far-bucket-bench.ts`. A live S3 server behind a proxy that takes its
 * time, and a server of scripted vectors, so that the way is all that counts.
 */
import { S3Client } from 'bun';
import { startCorpusStand } from '../../src/testing/corpus/corpus-stand.ts';
import { startFarS3 } from '../../src/testing/corpus/far-s3.ts';
import { count, readFlags } from '../flags.ts';
import { textTable } from './report/text-table.ts';
import { runScript } from './run-script.ts';

const FLAGS = {
  objects: count(1000, [10, 100_000], 'objects of the source, three texts each'),
  files: count(5000, [10, 100_000], 'files of a disk, three texts each'),
  parts: count(100, [1, 10_000], 'parts of 64 texts that go into the bucket'),
  'delay-ms': count(20, [0, 1000], 'what the way there and back takes each request'),
};

/** Writes of the source at once. */
const WRITES_AT_ONCE = 64;

async function main(): Promise<void> {
  const { objects, files, parts, 'delay-ms': delayMs } = readFlags(import.meta.path, FLAGS);
  const s3 = await startFarS3({ bucket: 'archive', delayMs });
  const stand = startCorpusStand();
  try {
    stand.environment = s3.environment;
    await writeObjects(s3.near, objects);
    const table: string[][] = [];
    const timed = async (name: string, words: readonly string[]): Promise<void> => {
      s3.forget();
      const startMs = performance.now();
      const saidBefore = stand.textsSent().length;
      await stand.embed(words);
      const seconds = (performance.now() - startMs) / 1000;
      const asked = Object.entries(s3.asked).map(([method, times]) => `${times} ${method}`);
      const texts = stand.textsSent().length - saidBefore;
      table.push([name, String(texts), seconds.toFixed(2), asked.join(', '), `${s3.openCountMax}`]);
    };
    const small = ['s3://archive/laws/', '--to', stand.path('small'), '--id', 'id'];
    await timed(`${objects} objects`, small);
    await timed('the same again, all is done', small);
    const lines = Array.from({ length: parts * 64 }, (_, index) =>
      JSON.stringify({ id: index, text: `статья ${index}` }),
    );
    const source = await stand.write('laws.jsonl', lines.join('\n'));
    const into = [source, '--to', 's3://archive/vectors', '--id', 'id', '--part-texts', '64'];
    await timed(`${parts} parts into it`, into);
    for (let file = 0; file < files; file++) {
      await stand.write(`laws/${100_000 + file}.jsonl`, contentOf(file));
    }
    const near = [stand.path('laws'), '--to', stand.path('near'), '--id', 'id'];
    await timed(`${files} files`, near);
    await timed('the same again, all is done', near);
    console.log(textTable(['job', 'texts', 'seconds', 'requests', 'at once'], table));
  } finally {
    await stand.close();
    await s3.stop();
  }
}

async function writeObjects(environment: Record<string, string>, count: number): Promise<void> {
  const client = new S3Client({
    bucket: 'archive',
    endpoint: environment.AWS_ENDPOINT_URL ?? '',
    accessKeyId: environment.AWS_ACCESS_KEY_ID ?? '',
    secretAccessKey: environment.AWS_SECRET_ACCESS_KEY ?? '',
  });
  for (let start = 0; start < count; start += WRITES_AT_ONCE) {
    const some = Array.from({ length: Math.min(WRITES_AT_ONCE, count - start) }, (_, offset) => {
      const file = 100_000 + start + offset;
      return client.write(`laws/${file}.jsonl`, contentOf(file));
    });
    await Promise.all(some);
  }
}

function contentOf(file: number): string {
  const lines = [0, 1, 2].map((text) =>
    JSON.stringify({ id: `${file}-${text}`, text: `иск ${file} ${text}` }),
  );
  return lines.join('\n');
}

await runScript('far-bucket-bench', main);
