import type { Backend } from '../backend/contract.ts';
import { ServerError } from '../base/errors.ts';
import { areEqual, areHalved, HEADS, type Head, type TextOutput } from '../vectors/output.ts';
import {
  NOT_SENT,
  type PendingRequest,
  type PendingText,
  type TextOutcome,
} from './pending-request.ts';
import type { BatchQueue } from './queue.ts';

/**
 * Nothing is computed twice: of equal token ids and heads the model makes equal rows. So a text
 * that waits or runs is computed for all who ask for it meanwhile (request coalescing, also known
 * as single flight), and the row cache keeps rows of texts that come again. Both know a text by one
 * key, and both forget everything when the model may be another.
 */

/** A text by its ids and heads: equal ones have one key, and few others share it. */
export function keyOf(ids: Int32Array, heads: readonly Head[]): number {
  let key = areHalved(heads) ? 1 : 0;
  for (let at = 0; at < heads.length; at++) key = key * 4 + HEADS.indexOf(heads[at]) + 1;
  // A fifth of what the runtime's own hash takes for a query, and twice as much for a document.
  for (let at = 0; at < ids.length; at++) {
    key = Math.imul(key ^ ids[at], 0x9e3779b1) ^ (key >>> 15);
  }
  return key | 0;
}

/** What decides a text's rows. */
type KnownText = Pick<PendingText, 'key' | 'ids' | 'heads'>;

function areSame(a: KnownText, b: KnownText): boolean {
  return a.heads === b.heads && areEqual(a.ids, b.ids);
}

/** Where texts wait. */
type TextPlaces = Pick<BatchQueue<PendingText>, 'push' | 'remove'>;

/**
 * The texts that wait or run, each once; those that are equal to one of them go along with it. A
 * text that goes along is in no queue and no batch.
 *
 * Each keeps the deadline of its own request. When the request of the text that is computed ends,
 * the text is handed on to the most urgent that goes along; when that of another ends, it only goes
 * away. So the work dies with the last who wants it; but where the backend computes it to its end
 * all the same, who asks again meanwhile gets it. A caller whose patience is shorter than a long
 * text's time would otherwise have it computed from its beginning with each try, and never get it.
 *
 * It holds no more texts than the queue and the batches in flight.
 */
export class TextsInFlight {
  readonly #backend: Pick<Backend, 'modelStarts' | 'standIn' | 'isUnstoppable'>;
  readonly #queueOf: (request: PendingRequest) => TextPlaces;
  readonly #cache: RowCache | undefined;
  /** By key; of two texts with one key only the first is here. */
  readonly #texts = new TextsByKey();
  #modelStarts = 0;
  #joinedCount = 0;

  /**
   * @param options.queueOf where the texts of a request wait.
   * @param options.cache offered each row; undefined keeps nothing.
   */
  constructor(options: {
    backend: Pick<Backend, 'modelStarts' | 'standIn' | 'isUnstoppable'>;
    queueOf: (request: PendingRequest) => TextPlaces;
    cache: RowCache | undefined;
  }) {
    this.#backend = options.backend;
    this.#queueOf = options.queueOf;
    this.#cache = options.cache;
  }

  /** Texts that went along with an equal one, so far. */
  get joinedCount(): number {
    return this.#joinedCount;
  }

  /** Forgets all that a model made which may have been another. */
  renew(): void {
    const { modelStarts = 0 } = this.#backend;
    if (modelStarts === this.#modelStarts) return;
    this.#modelStarts = modelStarts;
    this.#texts.clear();
    this.#cache?.forget();
  }

  /**
   * Lets a text go along with an equal one that waits or runs. One that is more urgent waits in its
   * place: a query waits neither for the others of a large request nor as the background does.
   *
   * @returns false when the text needs a place in the queue.
   */
  join(text: PendingText): boolean {
    const first = this.#texts.get(text.key);
    if (first === undefined) {
      this.#texts.add(text);
      return false;
    }
    if (!areSame(first, text)) return false;
    this.#joinedCount++;
    text.request.coalescedTextCount++;
    if (first.sentMs !== NOT_SENT && first.request.isSettled) {
      inherit(first, text);
      return true;
    }
    if (first.sentMs !== NOT_SENT || !isMoreUrgent(text, first)) {
      goAlong(first, text);
      const { trace } = text.request;
      if (trace !== undefined) first.traces?.add(trace);
      return true;
    }
    this.#queueOf(first.request).remove(first);
    this.#handOn(first, text);
    goAlong(text, first);
    return false;
  }

  /** The request of a text has ended. Where others go along with it, one waits in its place. */
  leave(text: PendingText): void {
    text.first?.along?.delete(text);
    text.first = undefined;
    const heir = mostUrgent(text.along);
    if (heir === undefined) {
      text.along = undefined;
      const isComputed = text.sentMs !== NOT_SENT && this.#backend.isUnstoppable === true;
      if (!isComputed) this.close(text);
      return;
    }
    if (text.sentMs === NOT_SENT) {
      this.#handOn(text, heir);
      this.#queueOf(heir.request).push(heir);
      return;
    }
    text.along?.delete(heir);
    heir.first = undefined;
    inherit(text, heir);
  }

  /** Nobody joins the text any more. @returns whether anybody could until now. */
  close(text: PendingText): boolean {
    return this.#texts.remove(text);
  }

  /**
   * A text was computed, or gets no row any more: nobody inherits it. Its row is kept if it is of
   * the model itself.
   *
   * @returns those that get the same outcome; undefined for none.
   */
  end(
    text: PendingText,
    outcome: TextOutcome,
    servedBy: string | undefined,
  ): ReadonlySet<PendingText> | undefined {
    if (this.#cache !== undefined) this.renew();
    const { along } = text;
    const isKnown = this.close(text);
    if (isKnown && this.#cache !== undefined && !(outcome instanceof ServerError)) {
      const isOfModel = servedBy === undefined || servedBy !== this.#backend.standIn;
      if (isOfModel) this.#cache.offer(text, outcome, along !== undefined);
    }
    if (along === undefined) return undefined;
    text.along = undefined;
    for (const one of along) one.first = undefined;
    return along;
  }

  /** What `from` was to those that go along, `to` is now. */
  #handOn(from: PendingText, to: PendingText): void {
    if (this.close(from)) this.#texts.add(to);
    const { along } = from;
    from.along = undefined;
    to.first = undefined;
    along?.delete(to);
    for (const text of along ?? []) text.first = to;
    to.along = along;
  }
}

/** Places of the table at first; a power of two. */
const FIRST_PLACES = 256;

/**
 * A hash table, in whose places texts are chained. A `Map` would keep from the collector what has
 * long left it: see `LinkedList`. No two of its texts have one key.
 */
class TextsByKey {
  #places: (PendingText | undefined)[] = new Array(FIRST_PLACES).fill(undefined);
  #count = 0;

  get(key: number): PendingText | undefined {
    let text = this.#places[key & (this.#places.length - 1)];
    while (text !== undefined && text.key !== key) text = text.sharesPlace;
    return text;
  }

  add(text: PendingText): void {
    this.#count++;
    if (this.#count > this.#places.length) this.#grow();
    this.#put(text);
  }

  /** @returns whether it was there. */
  remove(text: PendingText): boolean {
    const place = text.key & (this.#places.length - 1);
    let before: PendingText | undefined;
    let at = this.#places[place];
    while (at !== undefined && at !== text) {
      before = at;
      at = at.sharesPlace;
    }
    if (at === undefined) return false;
    if (before === undefined) this.#places[place] = text.sharesPlace;
    else before.sharesPlace = text.sharesPlace;
    text.sharesPlace = undefined;
    this.#count--;
    return true;
  }

  clear(): void {
    this.#places.fill(undefined);
    this.#count = 0;
  }

  #put(text: PendingText): void {
    const place = text.key & (this.#places.length - 1);
    text.sharesPlace = this.#places[place];
    this.#places[place] = text;
  }

  #grow(): void {
    const all = this.#places;
    this.#places = new Array(2 * all.length).fill(undefined);
    for (let text of all) {
      while (text !== undefined) {
        const next: PendingText | undefined = text.sharesPlace;
        this.#put(text);
        text = next;
      }
    }
  }
}

/** A text that runs becomes another's: its batch knows it by its object. */
function inherit(text: PendingText, { request, index, arrivedMs }: PendingText): void {
  text.request = request;
  text.index = index;
  text.arrivedMs = arrivedMs;
  request.texts.push(text);
}

function goAlong(first: PendingText, text: PendingText): void {
  first.along ??= new Set();
  first.along.add(text);
  text.first = first;
}

/** Whether a text goes before another that waits: first who asks, then bulk, then background. */
function isMoreUrgent(text: PendingText, than: PendingText): boolean {
  const { isBackground, isBulk } = text.request;
  if (isBackground !== than.request.isBackground) return !isBackground;
  if (isBulk !== than.request.isBulk) return !isBulk;
  return text.dueMs < than.dueMs;
}

function mostUrgent(texts: ReadonlySet<PendingText> | undefined): PendingText | undefined {
  let found: PendingText | undefined;
  for (const text of texts ?? []) {
    if (text.request.isSettled) continue;
    if (found === undefined || isMoreUrgent(text, found)) found = text;
  }
  return found;
}

/** What is kept of a text: all that decides its rows, and the rows. */
interface Entry extends KnownText {
  readonly output: TextOutput;
  readonly bytes: number;
}

/** Beside ids and rows: objects, and the place in the map. */
const ENTRY_BYTES = 512;

/** No entry takes more than this part of the cache: a book's multi-vector would empty it. */
const ENTRY_SHARE = 1 / 64;

/** Keys of texts that were seen once; a power of two. */
const SEEN_COUNT = 1 << 16;

/**
 * Keeps rows of texts that come again. What is handed out has the bits that were once computed.
 *
 * A row is kept when its text comes for the second time. Most texts of a corpus never do, and would
 * only push out the queries that people repeat. Beyond the limit, what was used longest ago goes.
 */
export class RowCache {
  readonly #bytesMax: number;
  /** By key, the one used longest ago first. Of two texts with one key the later stays. */
  readonly #entries = new Map<number, Entry>();
  readonly #seen = new Int32Array(SEEN_COUNT);
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

  /** Texts whose rows were known, and the others. */
  get counts(): { readonly hit: number; readonly miss: number } {
    return { hit: this.#hitCount, miss: this.#missCount };
  }

  /** @returns the rows of a text, undefined when they are not known. Nobody may write to them. */
  find(text: KnownText): TextOutput | undefined {
    const entry = this.#entries.get(text.key);
    if (entry === undefined || !areSame(entry, text)) {
      this.#missCount++;
      return undefined;
    }
    this.#hitCount++;
    this.#entries.delete(text.key);
    this.#entries.set(text.key, entry);
    return entry.output;
  }

  /**
   * A text was computed. What is kept is a copy: a row is a view of its whole batch, which would
   * stay with it.
   *
   * @param hasComeAgain somebody asked for it while it was computed.
   */
  offer({ key, ids, heads }: KnownText, output: TextOutput, hasComeAgain: boolean): void {
    const place = key & (SEEN_COUNT - 1);
    if (!hasComeAgain && this.#seen[place] !== key) {
      this.#seen[place] = key;
      return;
    }
    let bytes = ENTRY_BYTES + ids.byteLength;
    const parts = partsOf(output);
    for (const [, values] of parts) bytes += values.byteLength;
    if (bytes > this.#bytesMax * ENTRY_SHARE) return;
    this.#drop(key);
    const copies = parts.map(([part, values]) => [part, values.slice()] as const);
    const kept = { key, ids: ids.slice(), heads, output: Object.fromEntries(copies), bytes };
    this.#entries.set(key, kept);
    this.#bytes += bytes;
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#drop(oldest);
    }
  }

  /** Another model may have come. */
  forget(): void {
    this.#entries.clear();
    this.#bytes = 0;
  }

  #drop(key: number): void {
    this.#bytes -= this.#entries.get(key)?.bytes ?? 0;
    this.#entries.delete(key);
  }
}

/** What is kept of an output: where there are halves, what they were made of is none any more. */
function partsOf(output: TextOutput): (readonly [string, Float32Array | Float16Array])[] {
  const { halves, multi_vector, ...others } = output;
  const vectors = halves === undefined ? { multi_vector } : { halves };
  return Object.entries({ ...others, ...vectors }).flatMap(([part, values]) =>
    values === undefined ? [] : [[part, values] as const],
  );
}
