import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import zlib from 'node:zlib';

/** A record of a small file. */
export interface SmallRecord {
  readonly id: string;
  readonly text: string;
}

/** The layouts and packings that people have thousands of, by the ends of their names. */
const KINDS = [
  '.jsonl',
  '.jsonl.gz',
  '.csv',
  '.jsonl.zst',
  '.json',
  '.csv.gz',
  '.tsv.zst',
  '.md',
] as const;
type Kind = (typeof KINDS)[number];

/** Records of one small file; a document has one text. */
const FILE_RECORDS = 3;

/** What may befall a small file. */
export const SOURCE_FAULTS = ['changed', 'vanished', 'added'] as const;
/** One of them. */
export type SourceFault = (typeof SOURCE_FAULTS)[number];

/** Half of the records in one file of a folder, the others in small ones of every kind. */
export async function writeMixed(folder: string, records: readonly SmallRecord[]): Promise<void> {
  const half = records.length >> 1;
  await Bun.write(join(folder, '0.jsonl'), contentOf('.jsonl', records.slice(0, half)));
  let start = half;
  for (let file = 0; start < records.length; file++) {
    const kind = KINDS[file % KINDS.length] as Kind;
    const count = kind === '.md' ? 1 : FILE_RECORDS;
    const some = records.slice(start, start + count);
    await Bun.write(join(folder, `${100_000 + file}${kind}`), contentOf(kind, some));
    start += count;
  }
}

/** Whether a small file is one that a refusal names alone: a document is named with its like. */
export function isNamedAlone(name: string): boolean {
  return name !== '0.jsonl' && !name.endsWith('.md');
}

/** Lets a fault befall a file, or a name beside it. @returns its path, and what mends it. */
export async function befall(
  path: string,
  fault: SourceFault,
): Promise<{ path: string; mend: () => Promise<void> }> {
  const kind = KINDS.find((ending) => /\/\d+(\..*)$/.exec(path)?.[1] === ending);
  if (kind === undefined) throw new Error(`${path} is no small file`);
  const other = contentOf(kind, [{ id: 'law-other', text: 'другой закон' }]);
  if (fault === 'added') {
    const added = `${path.slice(0, -kind.length)}5${kind}`;
    await Bun.write(added, other);
    return { path: added, mend: () => rm(added) };
  }
  // A hidden file is none of the folder's. It comes back with its time, which manifests tell.
  const hidden = path.replace(/[^/]+$/, '.$&');
  await rename(path, hidden);
  if (fault === 'changed') await Bun.write(path, other);
  return { path, mend: () => rename(hidden, path) };
}

function contentOf(kind: Kind, records: readonly SmallRecord[]): Uint8Array {
  const [, layout, packing] = kind.split('.');
  const bytes = Buffer.from(textOf(layout, records));
  if (packing === 'gz') return zlib.gzipSync(bytes);
  return packing === 'zst' ? zlib.zstdCompressSync(bytes) : bytes;
}

function textOf(layout: string | undefined, records: readonly SmallRecord[]): string {
  switch (layout) {
    case 'csv':
      return ['id,text', ...records.map(({ id, text }) => `${id},"${text}"`)].join('\n');
    case 'tsv':
      return ['id\ttext', ...records.map(({ id, text }) => `${id}\t${text}`)].join('\n');
    case 'json':
      return JSON.stringify(records);
    case 'md':
      return records.map(({ text }) => text).join('\n');
    default:
      return records.map((record) => JSON.stringify(record)).join('\n');
  }
}
