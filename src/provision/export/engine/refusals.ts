import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { writeFileAtomic } from '../../../model/files.ts';

/** What a refusal holds for: another GPU, image or graph may do what this one did not. */
export interface RefusalScope {
  readonly gpu: string;
  readonly image: string;
  /** sha256 of the graph that is built. */
  readonly graph: string;
  /** Memory that is free now. */
  readonly freeBytes: number;
}

interface Refusal extends RefusalScope {
  readonly profiles: string;
}

/** Profiles that were too large for a GPU, kept over runs: each costs minutes to find out again. */
export interface Refusals {
  /** The file that holds them. */
  readonly path: string;
  has(profiles: string): boolean;
  add(profiles: string): Promise<void>;
}

/** A refusal is forgotten once this much more memory is free. */
const MORE_SHARE = 1.05;
/** Kept at most: a ladder has some eight. */
const KEPT_COUNT = 32;

/**
 * Own file because it stays when an engine stands, unlike the finished steps.
 *
 * @param folder of the export's logs and caches; made when something is added.
 */
export async function openRefusals(folder: string, scope: RefusalScope): Promise<Refusals> {
  const path = join(folder, 'too-large.json');
  const known: Refusal[] = await readFile(path, 'utf8')
    .then((text) => JSON.parse(text))
    .then((list) => (Array.isArray(list) ? list : []))
    .catch(() => []);
  const isOfScope = (one: Refusal): boolean =>
    one.gpu === scope.gpu && one.image === scope.image && one.graph === scope.graph;
  return {
    path,
    has: (profiles) =>
      known.some(
        (one) =>
          isOfScope(one) &&
          one.profiles === profiles &&
          // JSON has no infinity: what nobody knew is null.
          (one.freeBytes ?? Number.POSITIVE_INFINITY) * MORE_SHARE >= scope.freeBytes,
      ),
    async add(profiles) {
      known.push({ ...scope, profiles });
      await mkdir(dirname(path), { recursive: true });
      const text = `${JSON.stringify(known.slice(-KEPT_COUNT), null, 2)}\n`;
      await writeFileAtomic(path, new TextEncoder().encode(text));
    },
  };
}
