import { link, mkdir, readdir, readFile, rename, rmdir, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { removeStalePartials, syncFolder } from '../../model/files.ts';
import { CorpusError, wordsOf } from '../corpus-error.ts';
import type { PartFormat } from './part-format.ts';
import { guardOf, type OutputSchema, type PartFacts, type Sink } from './sink.ts';
import { StagedFile } from './staged-file.ts';

/** What is not for readers of the vectors: Spark and pyarrow skip names like this one. */
const OWN_FOLDER = '_embed';

/** Parts stand in the order of their names up to this many digits. */
const PART_DIGITS = 6;

/** `part-000012`. */
export function partName(part: number): string {
  return `part-${String(part).padStart(PART_DIGITS, '0')}`;
}

/** The number in a part's name, or undefined where it is none. */
export function partOfName(name: string, ending: string): number | undefined {
  const match = /^part-(\d+)$/.exec(name.endsWith(ending) ? name.slice(0, -ending.length) : '');
  return match === null ? undefined : Number(match[1]);
}

/**
 * A folder on this machine, or one that several machines mount. A part is written beside its place,
 * below a name of this machine and process that nobody else has, and committed by one rename; its
 * facts are there before it is.
 */
export function createDiskSink(options: { folder: string; format: PartFormat }): Sink {
  const { folder, format } = options;
  const own = join(folder, OWN_FOLDER);
  const manifestPath = join(own, 'manifest.json');
  const factsPath = (part: number): string => join(own, 'facts', `${partName(part)}.json`);
  const last = format.endings.at(-1) ?? '';
  let schema: OutputSchema | undefined;
  const guard = guardOf((error) => failureOf(folder, error));
  const staging = join(own, `staging-${hostname().replace(/[^\w.-]/g, '-')}`);
  const stage = async (name: string, options?: { isReadSoon: boolean }): Promise<StagedFile> => {
    // A queue may deal one part out twice, to one process or to two: containers that have the
    // network of their host have its name too, and each may be process 1.
    const path = join(staging, `${name}.${crypto.randomUUID()}.${process.pid}.partial`);
    for (;;) {
      await mkdir(staging, { recursive: true });
      // Another process of this machine that ends removes the folder when it finds it empty.
      const file = await StagedFile.create(path, options).catch(undefinedIfMissing);
      if (file !== undefined) return file;
    }
  };
  const stageText = async (name: string, text: string): Promise<StagedFile> => {
    const file = await stage(name, { isReadSoon: true });
    await file.append(Buffer.from(text));
    await file.finish();
    return file;
  };

  return {
    address: folder,
    async check() {
      const facts = await stat(folder).catch(() => undefined);
      if (facts === undefined || facts.isDirectory()) return;
      throw new CorpusError('CORPUS_FLAG_INVALID', `--to ${folder} is a file; name a folder.`);
    },
    commitsAtOnce: 1,
    readManifest: () =>
      guard(() => readFile(manifestPath, 'utf8').catch((error) => undefinedIfMissing(error))),
    createManifest: (text) =>
      guard(async () => {
        const file = await stageText('manifest.json', text);
        // Unlike a rename, a link refuses where somebody was faster.
        const isMade = await link(file.path, manifestPath).then(
          () => true,
          (error) => falseIfThere(error),
        );
        await file.remove();
        await syncFolder(own);
        return isMade;
      }),
    prepare: (given) =>
      guard(async () => {
        schema = given;
        await mkdir(join(own, 'facts'), { recursive: true });
        await mkdir(staging, { recursive: true });
        await removeStalePartials(staging);
      }),
    committed: () =>
      guard(async () => {
        const names = (await readdir(folder).catch(undefinedIfMissing)) ?? [];
        const parts = names.map((name) => partOfName(name, last));
        return new Set(parts.filter((part) => part !== undefined));
      }),
    isCommitted: (part) =>
      guard(() => stat(join(folder, partName(part) + last)).catch(undefinedIfMissing)).then(
        (facts) => facts !== undefined,
      ),
    factsOf: (part) =>
      guard(async () => JSON.parse(await readFile(factsPath(part), 'utf8')) as PartFacts),
    openPart: (part) =>
      guard(async () => {
        const name = partName(part);
        const files: StagedFile[] = [];
        for (const ending of format.endings) files.push(await stage(`${name}${ending}`));
        const encoder = format.open(files, schema as OutputSchema);
        return {
          write: (rows) => guard(() => encoder.write(rows)),
          commit: (facts) =>
            guard(async () => {
              await encoder.finish();
              for (const file of files) await file.finish();
              const told = await stageText(`${name}.json`, `${JSON.stringify(facts)}\n`);
              await rename(told.path, factsPath(part));
              await syncFolder(join(own, 'facts'));
              for (const [index, file] of files.entries()) {
                await rename(file.path, join(folder, `${name}${format.endings[index]}`));
              }
              await syncFolder(folder);
            }),
          async abandon() {
            for (const file of files) await file.remove();
          },
        };
      }),
    async close() {
      // Other processes of this machine may be at work in it.
      await rmdir(staging).catch(() => undefined);
    },
  };
}

function failureOf(folder: string, error: unknown): string {
  const code = (error as { code?: string }).code ?? '';
  const why = ['ENOSPC', 'EDQUOT', 'MODEL_DISK_FULL', 'EFBIG'].includes(code)
    ? 'the disk or quota is full'
    : wordsOf(error);
  return `${folder} cannot be written: ${why}. What is committed stays; run it again.`;
}

function falseIfThere(error: { code?: string }): false {
  if (error.code === 'EEXIST') return false;
  throw error;
}

function undefinedIfMissing(error: { code?: string }): undefined {
  if (error.code === 'ENOENT') return undefined;
  throw error;
}
