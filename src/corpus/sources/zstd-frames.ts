/** The next bytes of a packed file: to look at, or to pass over. */
interface Step {
  readonly count: number;
  readonly isLookedAt: boolean;
  /** Whether the file may end before them. */
  readonly mayEnd: boolean;
}

const FRAME_MAGIC = 0xfd2fb528;
/** Of a frame that is passed over; the last four bits are its writer's. */
const SKIPPABLE_MAGIC = 0x184d2a50;

/** Bytes of the dictionary's id and of the content's size, by their flags. */
const DICTIONARY_BYTES = [0, 1, 2, 4] as const;
const SIZE_BYTES = [0, 2, 4, 8] as const;
/** A block of one byte that is said once. */
const RUN_BLOCK = 1;

/**
 * Follows the frames and blocks of zstd through the bytes of a file (RFC 8878). Bun's own unpacking
 * takes a file that breaks off, and bytes of something else after a frame, for its end
 * (`findings/bun-zstd-stream-takes-a-cut-off-for-the-end.sh`).
 */
export class ZstdFrames {
  readonly #steps = stepsOf();
  #step = this.#steps.next().value;
  #taken: Uint8Array = new Uint8Array();
  #left = this.#step.count;

  /**
   * The next bytes.
   *
   * @throws Error where a frame should begin and does not.
   */
  add(piece: Uint8Array): void {
    for (let from = 0; from < piece.length; ) {
      const count = Math.min(this.#left, piece.length - from);
      if (this.#step.isLookedAt) {
        this.#taken = Buffer.concat([this.#taken, piece.subarray(from, from + count)]);
      }
      from += count;
      this.#left -= count;
      while (this.#left === 0) {
        this.#step = this.#steps.next(this.#taken).value;
        this.#left = this.#step.count;
        this.#taken = new Uint8Array();
      }
    }
  }

  /** Whether the last frame has come to its end. */
  get isWhole(): boolean {
    return this.#step.mayEnd && this.#taken.length === 0;
  }
}

function* stepsOf(): Generator<Step, never, Uint8Array> {
  for (;;) {
    const magic = numberOf(yield { count: 4, isLookedAt: true, mayEnd: true });
    if (magic >>> 4 === SKIPPABLE_MAGIC >>> 4) {
      yield passOver(numberOf(yield lookAt(4)));
      continue;
    }
    if (magic !== FRAME_MAGIC) throw new Error('no frame of zstd begins where one should');
    const flags = numberOf(yield lookAt(1));
    const isSingle = (flags & 32) !== 0;
    const sizeBytes = SIZE_BYTES[(flags >>> 6) as 0 | 1 | 2 | 3] || (isSingle ? 1 : 0);
    const dictionaryBytes = DICTIONARY_BYTES[(flags & 3) as 0 | 1 | 2 | 3];
    yield passOver((isSingle ? 0 : 1) + dictionaryBytes + sizeBytes);
    for (let isLast = false; !isLast; ) {
      const block = numberOf(yield lookAt(3));
      isLast = (block & 1) === 1;
      yield passOver(((block >>> 1) & 3) === RUN_BLOCK ? 1 : block >>> 3);
    }
    if ((flags & 4) !== 0) yield passOver(4);
  }
}

function lookAt(count: number): Step {
  return { count, isLookedAt: true, mayEnd: false };
}

function passOver(count: number): Step {
  return { count, isLookedAt: false, mayEnd: false };
}

/** Of bytes whose lowest comes first. */
function numberOf(bytes: Uint8Array): number {
  return bytes.reduceRight((number, byte) => number * 256 + byte, 0);
}
