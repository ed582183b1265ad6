/**
 * Throughput of a job over JetStream against its workers, from the first request to the last:
 * `bun scripts/bench/corpus-workers-bench.ts`. The server takes its time for each request and costs
 * nothing, as if each worker had a model of its own elsewhere; so what the dealing out costs shows.
 */
import { rmSync } from 'node:fs';
import { sleep, systemClock } from '../../src/base/clock.ts';
import { jsonLines, startCorpusStand } from '../../src/testing/corpus/corpus-stand.ts';
import { startCommand } from '../../src/testing/corpus/kill-run.ts';
import { startNats } from '../../src/testing/corpus/start-nats.ts';
import { count, listOf, readFlags } from '../flags.ts';
import { short, textTable } from './report/text-table.ts';
import { runScript } from './run-script.ts';

const FLAGS = {
  workers: listOf(count(1, [1, 64], 'workers at a time'), '1,2,4,8'),
  texts: count(64_000, [1000, 10_000_000], 'texts of a job'),
};

/** A request of 64 texts on one middling GPU, texts of 130 tokens. */
const REQUEST_MS = 70;
const PART_TEXTS = 256;

async function main(): Promise<void> {
  const { workers: counts, texts: textCount } = readFlags(import.meta.path, FLAGS);
  const stand = startCorpusStand();
  const nats = await startNats();
  try {
    const texts = Array.from({ length: textCount }, (_, index) => `статья ${index}`);
    const source = await stand.write('laws.jsonl', jsonLines(texts));
    let firstMs = Number.POSITIVE_INFINITY;
    let lastMs = 0;
    stand.answer = async () => {
      firstMs = Math.min(firstMs, performance.now());
      await sleep(systemClock, REQUEST_MS);
      lastMs = performance.now();
      return undefined;
    };
    const queue = ['--queue', nats.url, '--url', stand.server.url, '--concurrency', '1'];
    const rows: string[][] = [];
    let alone = 0;
    for (const count of counts) {
      firstMs = Number.POSITIVE_INFINITY;
      const to = stand.path(`out-${count}`);
      const words = [source, '--to', to, '--id', 'id', '--part-texts', String(PART_TEXTS)];
      const others = Array.from({ length: count - 1 }, () => startCommand(['--worker', ...queue]));
      const { status, said } = await startCommand([...words, ...queue]).ended;
      if (status !== 0) throw new Error(said);
      const rate = (textCount / (lastMs - firstMs)) * 1000;
      for (const { ended } of others) await ended;
      alone ||= rate / count;
      rows.push([String(count), short(rate), `${short((100 * rate) / (alone * count))} %`]);
      rmSync(to, { recursive: true });
    }
    console.log(textTable(['workers', 'texts/s', 'of so many times one'], rows));
  } finally {
    await stand.close();
    await nats.stop();
  }
}

await runScript('corpus-workers-bench', main);
