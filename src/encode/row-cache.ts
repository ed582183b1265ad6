import { ServerError } from '../base/errors.ts';
import type { JobResult, TextOutcome } from '../batcher/pending-request.ts';
import { HEADS, type Head, type TextOutput } from '../vectors/output.ts';

/** What is kept of a text: all that decides its rows, and the rows. */
interface Entry {
  readonly ids: Int32Array;
  /** Canonical: equal sets are the same array. */
  readonly heads: readonly Head[];
  readonly output: TextOutput;
  readonly bytes: number;
}

/** Beside ids and rows: objects, and the place in the map. */
const ENTRY_BYTES = 512;

/** No entry takes more than this part of the cache: a book's multi-vector would empty it. */
const ENTRY_SHARE = 1 / 64;

/** Hashes of texts that were seen once; a power of two. */
const SEEN_COUNT = 1 << 16;

/**
 * Keeps rows of texts that come again, by token ids and heads: of equal ids the model makes equal
 * rows. What is handed out has the bits that were once computed.
 *
 * A row is kept when its text comes for the second time. Most texts of a corpus never do, and would
 * only push out the queries that people repeat. Beyond the limit, what was used longest ago goes.
 *
 * One model at a time: `look` is told how often a model has come up, and forgets everything when
 * that has changed, since another model may have come.
 */
export class RowCache {
  readonly #bytesMax: number;
  /** By hash, the one used longest ago first. Of two texts with one hash the later stays. */
  readonly #entries = new Map<number, Entry>();
  readonly #seen = new Uint32Array(SEEN_COUNT);
  #modelStarts = 0;
  #bytes = 0;
  #hitCount = 0;
  #missCount = 0;

  /** @param bytesMax of all that is kept. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Texts that needed no computing, and those that did. */
  get counts(): { readonly hit: number; readonly miss: number } {
    return { hit: this.#hitCount, miss: this.#missCount };
  }

  /**
   * Looks up the texts of a request.
   *
   * @param tokenIds borrowed until the lookup is joined.
   */
  look(tokenIds: readonly Int32Array[], heads: readonly Head[], modelStarts: number): CacheLookup {
    if (modelStarts !== this.#modelStarts) this.#forget(modelStarts);
    const hashes = tokenIds.map((ids) => hashOf(ids, heads));
    const known = tokenIds.map((ids, index) => this.#find(hashes[index], ids, heads));
    const missing: Int32Array[] = [];
    /** For each text without known rows, its place among the missing. */
    const places: number[] = [];
    const placeOf = new Map<number, number>();
    for (const [index, ids] of tokenIds.entries()) {
      if (known[index] !== undefined) continue;
      const place = placeOf.get(hashes[index]);
      if (place !== undefined && areEqual(missing[place], ids)) {
        places[index] = place;
        continue;
      }
      places[index] = missing.push(ids) - 1;
      placeOf.set(hashes[index], places[index]);
    }
    this.#missCount += missing.length;
    this.#hitCount += tokenIds.length - missing.length;
    return {
      missing,
      hitCount: tokenIds.length - missing.length,
      join: ({ outcomes }, isKept) => {
        if (isKept && modelStarts === this.#modelStarts) {
          for (const [place, outcome] of outcomes.entries()) {
            const ids = missing[place];
            if (!(outcome instanceof ServerError)) this.#offer({ ids, heads, output: outcome });
          }
        }
        return tokenIds.map((_, index) => known[index] ?? outcomes[places[index]]);
      },
    };
  }

  #find(hash: number, ids: Int32Array, heads: readonly Head[]): TextOutput | undefined {
    const entry = this.#entries.get(hash);
    if (entry === undefined || entry.heads !== heads || !areEqual(entry.ids, ids)) return undefined;
    this.#entries.delete(hash);
    this.#entries.set(hash, entry);
    return entry.output;
  }

  /** Keeps copies: a row is a view of its whole batch, which would stay with it. */
  #offer({ ids, heads, output }: Omit<Entry, 'bytes'>): void {
    const hash = hashOf(ids, heads);
    if (this.#seen[hash % SEEN_COUNT] !== hash) {
      this.#seen[hash % SEEN_COUNT] = hash;
      return;
    }
    let bytes = ENTRY_BYTES + ids.byteLength;
    for (const head of heads) bytes += output[head]?.byteLength ?? 0;
    if (bytes > this.#bytesMax * ENTRY_SHARE) return;
    this.#drop(hash);
    const copies = heads.map((head) => [head, output[head]?.slice()] as const);
    this.#entries.set(hash, { ids: ids.slice(), heads, output: Object.fromEntries(copies), bytes });
    this.#bytes += bytes;
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#drop(oldest);
    }
  }

  #drop(hash: number): void {
    this.#bytes -= this.#entries.get(hash)?.bytes ?? 0;
    this.#entries.delete(hash);
  }

  #forget(modelStarts: number): void {
    this.#modelStarts = modelStarts;
    this.#entries.clear();
    this.#bytes = 0;
  }
}

/** What the cache knows of the texts of one request. */
export interface CacheLookup {
  /** Ids of the texts that must be computed, each once. */
  readonly missing: readonly Int32Array[];
  readonly hitCount: number;
  /**
   * Joins what was computed for the missing texts with what was known.
   *
   * @param isKept false for rows that did not come from the model itself.
   * @returns one outcome for each text. Rows are shared: nobody may write to them.
   */
  join(computed: Pick<JobResult, 'outcomes'>, isKept: boolean): readonly TextOutcome[];
}

function hashOf(ids: Int32Array, heads: readonly Head[]): number {
  let seed = 0;
  for (const head of heads) seed = seed * 4 + HEADS.indexOf(head) + 1;
  return Bun.hash.xxHash32(new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength), seed);
}

/** Whether two texts have the same token ids. */
export function areEqual(a: Int32Array, b: Int32Array): boolean {
  if (a.length !== b.length) return false;
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return false;
  return true;
}
