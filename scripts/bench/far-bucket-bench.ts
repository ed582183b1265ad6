/**
 * A corpus of small objects in a bucket that is far away, and small parts into one: `bun
 * scripts/bench/far-bucket-bench.ts`. A live S3 server behind a proxy that takes its time, and a
 * server of scripted vectors, so that the way is all that counts.
 */
import { S3Client } from 'bun';
import { startCorpusStand } from '../../src/testing/corpus/corpus-stand.ts';
import { startFarS3 } from '../../src/testing/corpus/far-s3.ts';
import { count, readFlags } from '../flags.ts';
import { textTable } from './report/text-table.ts';
import { runScript } from './run-script.ts';

const FLAGS = {
  files: count(1000, [10, 100_000], 'objects of the source, three texts each'),
  parts: count(100, [1, 10_000], 'parts of 64 texts that go into the bucket'),
  'delay-ms': count(20, [0, 1000], 'what the way there and back takes each request'),
};

/** Writes of the source at once. */
const WRITES_AT_ONCE = 64;

async function main(): Promise<void> {
  const { files, parts, 'delay-ms': delayMs } = readFlags(import.meta.path, FLAGS);
  const s3 = await startFarS3({ bucket: 'archive', delayMs });
  const stand = startCorpusStand();
  try {
    stand.environment = s3.environment;
    await writeObjects(s3.near, files);
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
    await timed(`${files} objects`, small);
    await timed('the same again, all is done', small);
    const lines = Array.from({ length: parts * 64 }, (_, index) =>
      JSON.stringify({ id: index, text: `статья ${index}` }),
    );
    const source = await stand.write('laws.jsonl', lines.join('\n'));
    const into = [source, '--to', 's3://archive/vectors', '--id', 'id', '--part-texts', '64'];
    await timed(`${parts} parts into it`, into);
    console.log(textTable(['job', 'texts', 'seconds', 'requests', 'at once'], table));
  } finally {
    await stand.close();
    await s3.stop();
  }
}

async function writeObjects(environment: Record<string, string>, files: number): Promise<void> {
  const client = new S3Client({
    bucket: 'archive',
    endpoint: environment.AWS_ENDPOINT_URL ?? '',
    accessKeyId: environment.AWS_ACCESS_KEY_ID ?? '',
    secretAccessKey: environment.AWS_SECRET_ACCESS_KEY ?? '',
  });
  for (let start = 0; start < files; start += WRITES_AT_ONCE) {
    const some = Array.from({ length: Math.min(WRITES_AT_ONCE, files - start) }, (_, offset) => {
      const file = 100_000 + start + offset;
      const lines = [0, 1, 2].map((text) =>
        JSON.stringify({ id: `${file}-${text}`, text: `иск ${file} ${text}` }),
      );
      return client.write(`laws/${file}.jsonl`, lines.join('\n'));
    });
    await Promise.all(some);
  }
}

await runScript('far-bucket-bench', main);
