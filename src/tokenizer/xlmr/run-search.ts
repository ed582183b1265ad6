import type { TokenizerTables } from './compiled-format.ts';
import { PIECE_BITS, PIECE_NONE } from './route.ts';

/** Finds the best ways through long runs of one code, as the search over the whole trie would. */
export interface RunSearch {
  /** Where the next long run begins, from `from` on; or `count`. */
  startOf(codes: Uint16Array, from: number, count: number): number;
  /**
   * Goes on from `start`, where a long run begins, as far as no piece leaves it.
   *
   * @param best the search's ring of scores, as it is before the ways that end at `start` are
   *   extended; left as it is before those that end at the returned place are.
   * @param steps the search's steps; filled up to what `best` tells.
   * @returns where it stopped.
   */
  advance(way: {
    readonly codes: Uint16Array;
    readonly start: number;
    readonly count: number;
    readonly best: Float64Array;
    readonly steps: Int32Array;
  }): number;
}

/** Scores that are at hand at a time: 8 kB stay in the first-level cache. */
const BLOCK = 1024;

/** By piece: what `steps` says of it, and its score. */
interface Pieces {
  readonly marks: Int32Array;
  readonly costs: Float64Array;
}

/**
 * In a run the same pieces follow everywhere. They are looked up once; then each place draws from
 * the places before it, which takes one write where the other way round each piece reads and writes
 * what lies ahead. The longest piece is asked first: it begins first, and of equal sums the search
 * keeps the one that began first.
 */
export function createRunSearch(tables: TokenizerTables): RunSearch {
  const { trie, scores } = tables;
  const { unknownId, unknownScore, pieceLengthMax } = tables.meta;
  /** A shorter run is not worth looking up. */
  const runLengthMin = pieceLengthMax * 4;
  /** A long run holds all of one such stride at least. */
  const stride = pieceLengthMax * 2;
  // Scores of the places from `reach` before the current block on.
  const reach = pieceLengthMax;
  const sums = new Float64Array(reach + BLOCK);
  /** Where the scores end. */
  let filled = 0;

  /** The pieces that are one code over and over, the longest first; the unknown one may be last. */
  function piecesOf(code: number): Pieces {
    const marks: number[] = [];
    const costs: number[] = [];
    let base = 0;
    for (let length = 1; length === 1 || base !== 0; length++) {
      const slot = (base + code) << 1;
      const word = trie[slot + 1];
      const isChild = word >>> PIECE_BITS === code;
      const id = isChild ? word & PIECE_NONE : PIECE_NONE;
      if (id !== PIECE_NONE || length === 1) {
        const isKnown = id !== PIECE_NONE;
        marks.push((length << PIECE_BITS) | (isKnown ? id : unknownId));
        costs.push(isKnown ? scores[id] : unknownScore);
      }
      base = isChild ? trie[slot] : 0;
    }
    // `fillFromMany` names four. No way is worth minus infinity, so the added one is never taken.
    if (marks.length === 3) {
      marks.splice(2, 0, 1 << PIECE_BITS);
      costs.splice(2, 0, Number.NEGATIVE_INFINITY);
    }
    return { marks: Int32Array.from(marks.reverse()), costs: Float64Array.from(costs.reverse()) };
  }

  /** Draws the places from `to` on, where there is only one piece. */
  function fillFromOne(steps: Int32Array, to: number, { marks, costs }: Pieces): void {
    const cost = costs[0];
    let sum = sums[reach - 1];
    for (let at = reach; at < filled; at++) {
      sum += cost;
      sums[at] = sum;
    }
    steps.fill(marks[0], to, to + filled - reach);
  }

  /** Draws the places that a piece from before the run may reach. @returns the last one. */
  function begin(start: number, best: Float64Array, steps: Int32Array, pieces: Pieces): number {
    const { marks, costs } = pieces;
    const ring = best.length - 1;
    sums.fill(Number.NEGATIVE_INFINITY, 0, reach);
    sums[reach] = best[start & ring];
    filled = reach + 1;
    for (let to = start + 1; to < start + reach; to++) {
      let sum = best[to & ring];
      for (let index = 0; index < marks.length; index++) {
        const total = sums[filled - (marks[index] >>> PIECE_BITS)] + costs[index];
        if (total > sum) {
          sum = total;
          steps[to] = marks[index];
        }
      }
      sums[filled++] = sum;
    }
    return start + reach - 1;
  }

  /** Draws the places from `to` on, where there are two pieces. */
  function fillFromTwo(steps: Int32Array, to: number, { marks, costs }: Pieces): void {
    const block = sums;
    const end = filled;
    const ahead = to - reach;
    const [mark1, mark0] = marks;
    const [cost1, cost0] = costs;
    const length1 = mark1 >>> PIECE_BITS;
    let sum = block[reach - 1];
    for (let at = reach; at < end; at++) {
      const last = sum + cost0;
      let mark = mark1;
      sum = block[at - length1] + cost1;
      if (last > sum) {
        sum = last;
        mark = mark0;
      }
      block[at] = sum;
      steps[ahead + at] = mark;
    }
  }

  /** Draws the places from `to` on, where there are three pieces or more. */
  function fillFromMany(steps: Int32Array, to: number, { marks, costs }: Pieces): void {
    const block = sums;
    const end = filled;
    const ahead = to - reach;
    // The longest one and the three shortest have names. Those between are few, mostly none.
    const between = marks.length - 3;
    const markLongest = marks[0];
    const mark2 = marks[between];
    const mark1 = marks[between + 1];
    const mark0 = marks[between + 2];
    const costLongest = costs[0];
    const cost2 = costs[between];
    const cost1 = costs[between + 1];
    const cost0 = costs[between + 2];
    const lengthLongest = markLongest >>> PIECE_BITS;
    const length2 = mark2 >>> PIECE_BITS;
    const length1 = mark1 >>> PIECE_BITS;
    let sum = block[reach - 1];
    for (let at = reach; at < end; at++) {
      const last = sum + cost0;
      let mark = markLongest;
      sum = block[at - lengthLongest] + costLongest;
      for (let index = 1; index < between; index++) {
        const total = block[at - (marks[index] >>> PIECE_BITS)] + costs[index];
        if (total > sum) {
          sum = total;
          mark = marks[index];
        }
      }
      const total2 = block[at - length2] + cost2;
      if (total2 > sum) {
        sum = total2;
        mark = mark2;
      }
      const total1 = block[at - length1] + cost1;
      if (total1 > sum) {
        sum = total1;
        mark = mark1;
      }
      if (last > sum) {
        sum = last;
        mark = mark0;
      }
      block[at] = sum;
      steps[ahead + at] = mark;
    }
  }

  /** Puts into the ring what pieces from before `stop` reach. */
  function leave(stop: number, best: Float64Array, steps: Int32Array, pieces: Pieces): void {
    const { marks, costs } = pieces;
    const ring = best.length - 1;
    best.fill(Number.NEGATIVE_INFINITY);
    best[stop & ring] = sums[filled - 1];
    for (let ahead = reach - 1; ahead > 0; ahead--) {
      const here = sums[filled - 1 - ahead];
      for (let index = 0; index < marks.length; index++) {
        const to = stop - ahead + (marks[index] >>> PIECE_BITS);
        const total = here + costs[index];
        if (to > stop && total > best[to & ring]) {
          best[to & ring] = total;
          steps[to] = marks[index];
        }
      }
    }
  }

  return {
    startOf(codes, from, count) {
      for (let at = from + stride - 1; at < count; at += stride) {
        const code = codes[at];
        let start = at;
        while (start > from && codes[start - 1] === code) start--;
        if (at - start < stride - 1) continue;
        const end = start + runLengthMin;
        let stop = at + 1;
        while (stop < count && stop <= end && codes[stop] === code) stop++;
        if (stop > end) return start;
      }
      return count;
    },
    advance({ codes, start, count, best, steps }) {
      let stop = start;
      const code = codes[start];
      while (stop < count && codes[stop] === code) stop++;
      stop -= pieceLengthMax;
      const pieces = piecesOf(code);
      const fill = [fillFromOne, fillFromTwo][pieces.marks.length - 1] ?? fillFromMany;
      let place = begin(start, best, steps, pieces);
      while (place < stop) {
        sums.copyWithin(0, filled - reach, filled);
        filled = reach + Math.min(BLOCK, stop - place);
        fill(steps, place + 1, pieces);
        place += filled - reach;
      }
      leave(stop, best, steps, pieces);
      return stop;
    },
  };
}
