import type { Clock } from '../base/clock.ts';
import { ServerError } from '../base/errors.ts';

/** Deaths after which a text is refused. One may be chance: something else killed the worker. */
const DEATHS_MAX = 2;

/** How long a text is remembered after its last death, in ms: longer than clients retry. */
const MEMORY_MS = 600_000;

/**
 * Texts remembered at once; the oldest is forgotten first. A text that kills is rare; a thousand
 * are an attack.
 */
const TEXTS_MAX = 1024;

interface Suspect {
  deathCount: number;
  /** Whether it was alone at its last death, and so is the cause without doubt. */
  wasAlone: boolean;
  untilMs: number;
}

/**
 * Remembers, by hash, the texts of each batch whose worker or server died. Such a text runs alone
 * from then on, so that it harms no other. One that has killed twice, and was alone the last time,
 * is refused until it is forgotten.
 */
export class Quarantine {
  readonly #clock: Clock;
  readonly #suspects = new Map<bigint | number, Suspect>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether nothing is remembered: then no text has to be hashed. */
  get isEmpty(): boolean {
    return this.#suspects.size === 0;
  }

  /** What is known of a text: nothing, that it must run alone, or the error that refuses it. */
  judge(ids: Int32Array): 'unknown' | 'alone' | ServerError {
    const key = keyOf(ids);
    const suspect = this.#suspects.get(key);
    if (suspect === undefined) return 'unknown';
    const leftMs = suspect.untilMs - this.#clock.now();
    if (leftMs <= 0) {
      this.#suspects.delete(key);
      return 'unknown';
    }
    if (suspect.deathCount < DEATHS_MAX || !suspect.wasAlone) return 'alone';
    return new ServerError(
      'EMB_TEXT_REFUSED',
      `This text has ended a worker of the model ${suspect.deathCount} times and is refused for now.`,
      { limit: DEATHS_MAX, value: suspect.deathCount },
    );
  }

  /** These texts were in one batch whose worker died. */
  remember(texts: readonly { readonly ids: Int32Array }[]): void {
    const wasAlone = texts.length === 1;
    const untilMs = this.#clock.now() + MEMORY_MS;
    for (const { ids } of texts) {
      const key = keyOf(ids);
      const deathCount = (this.#suspects.get(key)?.deathCount ?? 0) + 1;
      this.#suspects.delete(key);
      this.#suspects.set(key, { deathCount, wasAlone, untilMs });
    }
    for (const key of this.#suspects.keys()) {
      if (this.#suspects.size <= TEXTS_MAX) break;
      this.#suspects.delete(key);
    }
  }

  /** The text has run and nothing died. */
  clear(ids: Int32Array): void {
    if (this.#suspects.size > 0) this.#suspects.delete(keyOf(ids));
  }
}

function keyOf(ids: Int32Array): bigint | number {
  return Bun.hash(new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength));
}
