/**
 * Batches that a returning endpoint has to answer, one at a time, before it gets its full share.
 */
const SLOW_START_BATCHES = 8;

/**
 * Failed batches in a row after which an endpoint that still answers probes is set aside, if there
 * is another.
 */
const FAILURES_MAX = 3;

/** How long it is set aside the first time, and at most; each time in a row doubles it, in ms. */
const EJECT_MS_MIN = 2000;
const EJECT_MS_MAX = 60_000;

/**
 * Questions whether it lives that a busy endpoint may leave unanswered: one may be lost to a stall
 * of our own.
 */
const SILENCES_MAX = 2;

/** What an endpoint's own past says of it. It decides nothing but what it is asked. */
export class EndpointHealth {
  #failuresInARow = 0;
  #ejectionsInARow = 0;
  #slowStartLeft = 0;
  #silences = 0;

  /** Whether it has just come back, and gets one batch at a time. */
  get isSlowStarting(): boolean {
    return this.#slowStartLeft > 0;
  }

  /** A batch came back right. @returns whether the slow start has ended with it. */
  succeeded(): boolean {
    this.#failuresInARow = 0;
    this.#silences = 0;
    if (this.#slowStartLeft === 0) return false;
    this.#slowStartLeft--;
    if (this.#slowStartLeft > 0) return false;
    this.#ejectionsInARow = 0;
    return true;
  }

  /** A batch was refused or answered with nonsense. @returns whether that was once too often. */
  failed(): boolean {
    this.#failuresInARow++;
    return this.#failuresInARow >= FAILURES_MAX;
  }

  /** It left unanswered whether it lives. @returns whether that was once too often. */
  wasSilent(): boolean {
    this.#silences++;
    return this.#silences >= SILENCES_MAX;
  }

  spoke(): void {
    this.#silences = 0;
  }

  /** It was up and went down. */
  wentDown(): void {
    this.#slowStartLeft = SLOW_START_BATCHES;
    this.#failuresInARow = 0;
    this.#silences = 0;
  }

  /** How long it stays set aside this time, in ms. */
  nextEjectionMs(): number {
    const ejectMs = EJECT_MS_MIN * 2 ** this.#ejectionsInARow;
    if (ejectMs < EJECT_MS_MAX) this.#ejectionsInARow++;
    return Math.min(ejectMs, EJECT_MS_MAX);
  }
}
