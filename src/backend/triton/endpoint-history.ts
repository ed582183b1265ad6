/**
 * What earlier calls say of an endpoint: whether it is well, and what a batch costs there.
 */

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

/** How long it gets no batch when it was late again, in ms; doubled each time in a row. */
const LATE_MS_MIN = 100;
const LATE_MS_MAX = 10_000;

/** A timer that comes so much too late, in ms, tells of a stall of our own. */
export const STALL_MS = 10;

/** What an endpoint's own past says of it. It decides nothing but what it is asked. */
export class EndpointHealth {
  #failuresInARow = 0;
  #ejectionsInARow = 0;
  #latesInARow = 0;
  #slowStartLeft = 0;

  /** Whether it has just come back, and gets one batch at a time. */
  get isSlowStarting(): boolean {
    return this.#slowStartLeft > 0;
  }

  /** A batch came back right. @returns whether the slow start has ended with it. */
  succeeded(): boolean {
    this.#failuresInARow = 0;
    if (this.#slowStartLeft === 0) return false;
    this.#slowStartLeft--;
    if (this.#slowStartLeft > 0) return false;
    this.#ejectionsInARow = 0;
    this.#latesInARow = 0;
    return true;
  }

  /** A batch was refused or answered with nonsense. @returns whether that was once too often. */
  failed(): boolean {
    this.#failuresInARow++;
    return this.#failuresInARow >= FAILURES_MAX;
  }

  /** It was up and went down. */
  wentDown(): void {
    this.#slowStartLeft = SLOW_START_BATCHES;
    this.#failuresInARow = 0;
  }

  /** A batch is late there. @returns how long others are taken before it at least, in ms. */
  wasLate(): number {
    this.#slowStartLeft = SLOW_START_BATCHES;
    const lateCount = this.#latesInARow++;
    return lateCount === 0 ? 0 : Math.min(LATE_MS_MIN * 2 ** (lateCount - 1), LATE_MS_MAX);
  }

  /** How long it stays set aside this time, in ms. */
  nextEjectionMs(): number {
    const ejectMs = EJECT_MS_MIN * 2 ** this.#ejectionsInARow;
    if (ejectMs < EJECT_MS_MAX) this.#ejectionsInARow++;
    return Math.min(ejectMs, EJECT_MS_MAX);
  }
}

/** What a batch of one shape took on an endpoint. */
export interface TimedBatch {
  readonly textCount: number;
  readonly paddedLength: number;
  /** Time that the endpoint had for it alone. */
  readonly ms: number;
}

/** What batches cost, in tokens of a short text: what the planner compares. */
export interface CostShape {
  /** Padded tokens that cost as much as one more launch. */
  readonly launchTokens: number;
  /** Length at which attention costs as much as the rest of a token. */
  readonly lengthTokens: number;
}

/**
 * A middling GPU, before anything was measured: 4 ms for launch, transfer and bookkeeping, 120,000
 * tokens a second, and the operations of 24 layers of 1,024: 0.604 GFLOP a token and 98,304 times
 * the length for attention.
 */
const GUESS = { launchMs: 4, tokenMs: 1 / 120, lengthTokens: 6_144 };

/** Whatever was measured, the planner works within these. */
const LAUNCH_TOKENS = { min: 60, max: 8_000 };
const LENGTH_TOKENS = { min: 512, max: 1_000_000 };

/** What stays of a batch's weight with each one after it: half of it after 34. */
const MEMORY = 0.98;
/** Weight of the guess, in batches: it decides what the batches of late do not tell. */
const GUESS_WEIGHT = 2;
type Vector = readonly [number, number, number];

/**
 * The cost of a batch on one endpoint, learnt from those that came back:
 *
 *     ms = launch + token × texts × length + square × texts × length²
 *
 * Least squares of relative errors, with exponential forgetting. The guess stays in it as a few
 * batches of its own, so that a load of one length leaves no factor undetermined.
 */
export class BatchCost {
  /** Sums of products of the features, row by row, and of features and times. */
  readonly #products = new Float64Array(9);
  readonly #times = new Float64Array(3);
  /** By which the three parts of the guess are multiplied; undefined once a batch has told more. */
  #factors: Vector | undefined;

  /** Time that a batch is expected to take, in ms. */
  expectedMs({ textCount, paddedLength }: Omit<TimedBatch, 'ms'>): number {
    return dot(this.#known(), featuresOf(textCount, paddedLength));
  }

  learn({ textCount, paddedLength, ms }: TimedBatch): void {
    if (!(ms > 0)) return;
    // Relative errors: a millisecond more is much for a query and nothing for a page, and a stall,
    // whose features become small, weighs little.
    const features = featuresOf(textCount, paddedLength);
    for (let row = 0; row < 3; row++) {
      const feature = features[row] / ms;
      this.#times[row] = MEMORY * this.#times[row] + feature;
      for (let column = 0; column < 3; column++) {
        const at = row * 3 + column;
        this.#products[at] = MEMORY * this.#products[at] + (feature * features[column]) / ms;
      }
    }
    this.#factors = undefined;
  }

  /** Within bounds, whatever was measured. */
  get shape(): CostShape {
    const [launch, token, square] = this.#known();
    const tokenMs = token * GUESS.tokenMs;
    const squareMs = (square * GUESS.tokenMs) / GUESS.lengthTokens;
    return {
      launchTokens: within((launch * GUESS.launchMs) / tokenMs, LAUNCH_TOKENS),
      lengthTokens: within(tokenMs / squareMs, LENGTH_TOKENS),
    };
  }

  #known(): Vector {
    this.#factors ??= solve(this.#products, this.#times);
    return this.#factors;
  }
}

/** Room for the equations: this runs once a batch. */
const EQUATIONS = new Float64Array(12);

/**
 * The factors by which the guess is multiplied, none of them near zero or below: the normal
 * equations by elimination. The guess, at the endpoint's own scale, keeps them regular.
 */
function solve(products: Float64Array, times: Float64Array): Vector {
  const scale = scaleOf(products, times);
  const guess = GUESS_WEIGHT / 9 / scale ** 2;
  for (let row = 0; row < 3; row++) {
    for (let at = 0; at < 3; at++) EQUATIONS[row * 4 + at] = products[row * 3 + at];
    EQUATIONS[row * 5] += guess;
    EQUATIONS[row * 4 + 3] = times[row] + guess * scale;
  }
  for (let pivot = 0; pivot < 3; pivot++) {
    for (let row = 0; row < 3; row++) {
      if (row === pivot) continue;
      const factor = EQUATIONS[row * 4 + pivot] / EQUATIONS[pivot * 5];
      for (let at = pivot; at < 4; at++) {
        EQUATIONS[row * 4 + at] -= factor * EQUATIONS[pivot * 4 + at];
      }
    }
  }
  const solved = (at: number): number =>
    Math.max(EQUATIONS[at * 4 + 3] / EQUATIONS[at * 5], FACTOR_MIN * scale);
  return [solved(0), solved(1), solved(2)];
}

/** How many times slower than the guess the endpoint is, all in all; 1 before any batch. */
function scaleOf(products: Float64Array, times: Float64Array): number {
  let total = 0;
  let sum = 0;
  for (let at = 0; at < 3; at++) total += times[at];
  for (let at = 0; at < 9; at++) sum += products[at];
  return sum > 0 ? total / sum : 1;
}

/** The cost on any of several endpoints; the guess when there is none. */
export function meanCost(costs: readonly CostShape[]): CostShape {
  if (costs.length === 0) {
    return { launchTokens: GUESS.launchMs / GUESS.tokenMs, lengthTokens: GUESS.lengthTokens };
  }
  let [launchTokens, lengthTokens] = [0, 0];
  for (const cost of costs) {
    launchTokens += cost.launchTokens / costs.length;
    lengthTokens += cost.lengthTokens / costs.length;
  }
  return { launchTokens, lengthTokens };
}

/** No part of the cost is less than this share of the guess. */
const FACTOR_MIN = 0.02;

/** Each part of the guessed time, in ms. */
function featuresOf(textCount: number, paddedLength: number): Vector {
  const tokensMs = textCount * paddedLength * GUESS.tokenMs;
  return [GUESS.launchMs, tokensMs, (tokensMs * paddedLength) / GUESS.lengthTokens];
}

function dot(a: Vector, b: Vector): number {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

function within(value: number, { min, max }: { min: number; max: number }): number {
  return Math.min(max, Math.max(min, value));
}
