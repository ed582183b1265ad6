import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CorpusError, wordsOf } from '../corpus-error.ts';
import type { S3Bucket } from '../stores/s3-bucket.ts';
import { partName, partOfName } from './disk-sink.ts';
import type { PartFormat } from './part-format.ts';
import { guardOf, type OutputSchema, type PartFacts, type Sink } from './sink.ts';
import { StagedFile } from './staged-file.ts';

/**
 * A commit is two round trips and a transfer over one connection. One after the other, parts of 64
 * texts came to 1,200 texts a second where the way takes 20 ms. What waits lies on this disk.
 */
const COMMITS_AT_ONCE = 4;

/**
 * A prefix of a bucket, laid out as the folder of the disk's sink. A part is written on this
 * machine, and committed by a write that succeeds only where there is none: two workers that do the
 * same shard cannot both.
 */
export async function createS3Sink(options: {
  bucket: S3Bucket;
  prefix: string;
  format: PartFormat;
}): Promise<Sink> {
  const { bucket, format } = options;
  const folder = options.prefix === '' ? '' : `${options.prefix.replace(/\/+$/, '')}/`;
  const address = `s3://${bucket.name}/${folder}`;
  const manifestKey = `${folder}_embed/manifest.json`;
  const factsKey = (part: number): string => `${folder}_embed/facts/${partName(part)}.json`;
  const last = format.endings.at(-1) ?? '';
  const staging = await mkdtemp(join(tmpdir(), 'embed-s3-'));
  // Counted, since a queue may deal one part out twice to one process.
  let stagedCount = 0;
  let schema: OutputSchema | undefined;
  const guard = guardOf((error) => `${address} cannot be written: ${wordsOf(error)}.`);
  return {
    address,
    // Files take any rows.
    check: async () => undefined,
    commitsAtOnce: COMMITS_AT_ONCE,
    readManifest: () => bucket.read(manifestKey),
    createManifest: (text) => bucket.putIfAbsent(manifestKey, text),
    async prepare(given) {
      schema = given;
    },
    async committed() {
      const objects = await bucket.list(`${folder}part-`);
      const parts = objects.map(({ key }) => partOfName(key.slice(folder.length), last));
      return new Set(parts.filter((part) => part !== undefined));
    },
    async isCommitted(part) {
      return (await bucket.look(`${folder}${partName(part)}${last}`)) !== undefined;
    },
    async factsOf(part) {
      const text = await bucket.read(factsKey(part));
      if (text !== undefined) return JSON.parse(text) as PartFacts;
      const message = `${address}_embed/facts has nothing of ${partName(part)}.`;
      throw new CorpusError('CORPUS_SINK_FAILED', message);
    },
    openPart: (part) =>
      guard(async () => {
        const files: StagedFile[] = [];
        for (const ending of format.endings) {
          const path = join(staging, `${stagedCount++}${ending}`);
          files.push(await StagedFile.create(path, { isReadSoon: true }));
        }
        const encoder = format.open(files, schema as OutputSchema);
        const remove = async (): Promise<void> => {
          for (const file of files) await file.remove();
        };
        return {
          write: (rows) => guard(() => encoder.write(rows)),
          commit: (facts) =>
            guard(async () => {
              await encoder.finish();
              for (const file of files) await file.finish();
              await bucket.put(factsKey(part), `${JSON.stringify(facts)}\n`);
              for (const [index, file] of files.entries()) {
                const key = `${folder}${partName(part)}${format.endings[index]}`;
                // One that is there already has the same bytes.
                await bucket.putIfAbsent(key, Bun.file(file.path));
              }
              await remove();
            }),
          abandon: remove,
        };
      }),
    close: () => rm(staging, { recursive: true, force: true }),
  };
}
