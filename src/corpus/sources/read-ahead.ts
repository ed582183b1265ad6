import { onAbort } from '../../client/cancellation.ts';
import type { ByteInput } from './byte-input.ts';
import type { InputVersion } from './source.ts';

/**
 * Files that are read before their turn, and the bytes that one of them may have: 16 MiB together.
 * A bucket that answers in 20 ms so gives 1,600 small objects a second and not 50. Of a larger file
 * the bytes take the time, and not the asking.
 */
const FILES_AHEAD_MAX = 32;
const FILE_BYTES_MAX = 1 << 19;

/** One file before its turn. */
interface Begun {
  /** As it was just before it was read. Undefined where that failed: its turn will tell why. */
  readonly looked: Promise<InputVersion | undefined>;
  /** All of it; undefined where it is too large, or could not be read. */
  readonly bytes: Promise<Uint8Array | undefined>;
  readonly drop: () => void;
}

/**
 * Files that are read in their order, one after the other. While one is read, the small ones after
 * it are fetched at the same time; each asked for by itself would cost a round trip to its disk or
 * bucket.
 *
 * What could not be had ahead is read at its turn, and its error comes then. Never are more files
 * fetched than were read in a row before: whoever reads here and there wastes half at most.
 */
export class ReadAhead {
  /** The same files; whoever opens one turns to it. */
  readonly files: readonly ByteInput[];
  readonly #inner: readonly ByteInput[];
  readonly #signal: AbortSignal;
  /** By their places; the one that was turned to last is among them, since it may be read twice. */
  readonly #begun = new Map<number, Begun>();
  /** Fetches that have not ended, dropped ones too. */
  readonly #running = new Set<Promise<unknown>>();
  #place = -1;
  #inRow = 0;
  #isClosed = false;

  /** @param signal ends what is under way. */
  constructor(files: readonly ByteInput[], signal: AbortSignal) {
    this.#inner = files;
    this.#signal = signal;
    this.files = files.map((file, place) => new FileInTurn(this, file, place));
  }

  /** What a file was just before it was read; undefined where it was not read ahead. */
  async looked(place: number): Promise<InputVersion | undefined> {
    return this.#begun.get(place)?.looked;
  }

  /** Ends what is under way; nothing is open then. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#dropAll();
    await Promise.all(this.#running);
  }

  /** Goes on to this file, and begins those after it. @returns all of it, where it was read ahead. */
  async turnTo(place: number): Promise<Uint8Array | undefined> {
    if (place !== this.#place) {
      const isInRow = place === this.#place + 1 || this.#begun.has(place);
      if (!isInRow) this.#dropAll();
      for (const [before, begun] of this.#begun) if (before < place) this.#drop(before, begun);
      this.#inRow = isInRow ? this.#inRow + 1 : 1;
      this.#place = place;
    }
    const end = Math.min(this.#inner.length - 1, place + Math.min(this.#inRow, FILES_AHEAD_MAX));
    for (let next = place + 1; next <= end && !this.#isClosed; next++) {
      if (!this.#begun.has(next)) this.#begin(next);
    }
    const whole = await this.#begun.get(place)?.bytes;
    if (this.#isClosed) throw new Error('the source is closed');
    return whole;
  }

  #begin(place: number): void {
    const file = this.#inner[place] as ByteInput;
    const controller = new AbortController();
    const { signal } = controller;
    const leave = onAbort(this.#signal, () => controller.abort());
    const looked = file.look().catch(() => undefined);
    const bytes = looked
      .then((version) => (version === undefined ? undefined : fetchSmall(file, version, signal)))
      .catch(() => undefined)
      .finally(() => {
        leave();
        this.#running.delete(bytes);
      });
    this.#running.add(bytes);
    this.#begun.set(place, { looked, bytes, drop: () => controller.abort() });
  }

  #drop(place: number, begun: Begun): void {
    begun.drop();
    this.#begun.delete(place);
  }

  #dropAll(): void {
    for (const [place, begun] of this.#begun) this.#drop(place, begun);
  }
}

/** A file of some that are read in their order. */
class FileInTurn implements ByteInput {
  readonly #ahead: ReadAhead;
  readonly #file: ByteInput;
  readonly #place: number;

  constructor(ahead: ReadAhead, file: ByteInput, place: number) {
    this.#ahead = ahead;
    this.#file = file;
    this.#place = place;
  }

  get name(): string {
    return this.#file.name;
  }

  async look(): Promise<InputVersion> {
    return (await this.#ahead.looked(this.#place)) ?? this.#file.look();
  }

  async length(): Promise<number> {
    return (await this.#ahead.turnTo(this.#place))?.byteLength ?? this.#file.length();
  }

  async *open(from: number, to?: number): AsyncGenerator<Uint8Array, void, undefined> {
    const whole = await this.#ahead.turnTo(this.#place);
    if (whole === undefined) yield* this.#file.open(from, to);
    else if (from < whole.byteLength) yield whole.subarray(from, to);
  }
}

/** @returns undefined where it is too large, also where it has grown since. */
async function fetchSmall(
  file: ByteInput,
  { bytes }: InputVersion,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  if (bytes > FILE_BYTES_MAX) return undefined;
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const piece of file.open(0, undefined, signal)) {
    length += piece.byteLength;
    if (length > FILE_BYTES_MAX || signal.aborted) return undefined;
    pieces.push(piece);
  }
  // A copy: a piece of a kilobyte may lie in a block of a quarter of a megabyte.
  return Buffer.concat(pieces);
}
