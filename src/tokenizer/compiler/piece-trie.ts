import { LABEL_FREE, PIECE_BITS, PIECE_NONE } from '../xlmr/route.ts';

/** A trie over character codes, children of a node side by side and in ascending order of code. */
export interface PieceTrie {
  readonly nodeCount: number;
  /** The children of `node` are `childStarts[node]` to before `childStarts[node + 1]`. */
  readonly childStarts: Int32Array;
  readonly childCodes: Uint16Array;
  readonly childNodes: Int32Array;
  /** The piece that ends at a node, or `PIECE_NONE`. */
  readonly pieces: Int32Array;
}

/**
 * Builds the trie of all pieces. Where two pieces are equal the later one counts, as in the
 * reference.
 *
 * @param pieces each as its character codes, borrowed; the index is the id.
 */
export function buildPieceTrie(pieces: readonly Uint16Array[]): PieceTrie {
  const unitCount = pieces.reduce((sum, piece) => sum + piece.length, 0);
  const parents = new Int32Array(unitCount + 1).fill(-1);
  const codes = new Uint16Array(unitCount + 1);
  const ends = new Int32Array(unitCount + 1).fill(PIECE_NONE);
  // Children by parent and code, open addressing, at most half full. A Map takes ten times as long.
  const mask = (1 << (33 - Math.clz32(unitCount + 1))) - 1;
  const children = new Int32Array(mask + 1);
  let nodeCount = 1;
  for (const [id, piece] of pieces.entries()) {
    let node = 0;
    for (const code of piece) {
      let at = (Math.imul(node, 0x9e3779b1) ^ Math.imul(code, 0x85ebca6b)) >>> 0;
      at = (at ^ (at >>> 15)) & mask;
      let child = children[at];
      while (child !== 0 && (parents[child] !== node || codes[child] !== code)) {
        at = (at + 1) & mask;
        child = children[at];
      }
      if (child === 0) {
        child = nodeCount++;
        children[at] = child;
        parents[child] = node;
        codes[child] = code;
      }
      node = child;
    }
    ends[node] = id;
  }
  return { ...groupByParent(parents, codes, nodeCount), pieces: ends.slice(0, nodeCount) };
}

/** Two counting sorts: by code, then by parent, which keeps the order of codes. */
function groupByParent(
  parents: Int32Array,
  codes: Uint16Array,
  nodeCount: number,
): Omit<PieceTrie, 'pieces'> {
  const all = new Int32Array(nodeCount - 1);
  for (let index = 0; index < all.length; index++) all[index] = index + 1;
  const byCode = sortByKey(all, (node) => codes[node], 0x10000).sorted;
  const { sorted, starts } = sortByKey(byCode, (node) => parents[node], nodeCount);
  return {
    nodeCount,
    childStarts: starts,
    childNodes: sorted,
    childCodes: new Uint16Array(sorted.length).map((_, index) => codes[sorted[index]] ?? 0),
  };
}

/** @param keyCount keys run from 0 to before this. */
function sortByKey(
  values: Int32Array,
  keyOf: (value: number) => number,
  keyCount: number,
): { sorted: Int32Array; starts: Int32Array } {
  const starts = new Int32Array(keyCount + 1);
  for (let index = 0; index < values.length; index++) {
    const key = keyOf(values[index]);
    starts[key + 1] = starts[key + 1] + 1;
  }
  for (let key = 0; key < keyCount; key++) {
    starts[key + 1] = starts[key + 1] + starts[key];
  }
  const next = starts.slice();
  const sorted = new Int32Array(values.length);
  for (let index = 0; index < values.length; index++) {
    const value = values[index];
    const key = keyOf(value);
    const at = next[key];
    next[key] = at + 1;
    sorted[at] = value;
  }
  return { sorted, starts };
}

/**
 * Packs a trie into a double array: the child of a node along `code` sits in slot `base(node) +
 * code`, where it carries `code` as its label. No two nodes share a base, so the label alone tells
 * whose child a slot holds. The root's base is 0: its child along `code` is slot `code`.
 *
 * @returns two words a slot: its base, 0 where nothing follows; and its label above the piece that
 *   ends there (`PIECE_NONE` where none does). Any base plus any code below `LABEL_FREE` stays
 *   inside. Owned by the caller.
 */
export function packDoubleArray(trie: PieceTrie, alphabetSize: number): Int32Array {
  const slots = createSlots(trie.nodeCount + alphabetSize * 2 + 1);
  const bases = new Int32Array(trie.nodeCount);
  slots.take(0);
  for (const node of widestFirst(trie)) {
    const first = trie.childStarts[node];
    const last = trie.childStarts[node + 1];
    const base = node === 0 ? 0 : slots.findBase(trie.childCodes.subarray(first, last));
    bases[node] = base;
    slots.takeBase(base);
    for (let child = first; child < last; child++) slots.take(base + trie.childCodes[child]);
  }

  const packed = new Int32Array((slots.end() + alphabetSize + 1) * 2);
  for (let slot = 0; slot * 2 < packed.length; slot++) {
    packed[slot * 2 + 1] = (LABEL_FREE << PIECE_BITS) | PIECE_NONE;
  }
  for (let node = 0; node < trie.nodeCount; node++) {
    const last = trie.childStarts[node + 1];
    for (let index = trie.childStarts[node]; index < last; index++) {
      const code = trie.childCodes[index];
      const child = trie.childNodes[index];
      const slot = bases[node] + code;
      packed[slot * 2] = bases[child];
      packed[slot * 2 + 1] = (code << PIECE_BITS) | trie.pieces[child];
    }
  }
  return packed;
}

/**
 * Nodes with children, those with most of them first; the root before all. Single children fill the
 * gaps at the end.
 */
function widestFirst(trie: PieceTrie): number[] {
  const width = (node: number): number => trie.childStarts[node + 1] - trie.childStarts[node];
  const byWidth: number[][] = [];
  for (let node = 1; node < trie.nodeCount; node++) {
    const children = width(node);
    if (children === 0) continue;
    byWidth[children] ??= [];
    byWidth[children]?.push(node);
  }
  return [0, ...byWidth.reverse().flat()];
}

interface Slots {
  /** A base that puts every code on a free slot, and that no node has. Codes ascend. */
  findBase(codes: Uint16Array): number;
  take(slot: number): void;
  takeBase(base: number): void;
  /** One more than the last slot taken. */
  end(): number;
}

/** Which slots and bases are taken, a bit each, so that 32 bases are tried at once. */
function createSlots(capacity: number): Slots {
  let taken = new Int32Array((capacity >>> 5) + 1);
  let bases = new Int32Array((capacity >>> 5) + 1);
  /**
   * By count of children, the base that the last such node found: before it, room for the next is
   * rare.
   */
  const lastBases: number[] = [];
  /** By code, the base that the last single child found: it can have none before it. */
  const lastSingleBases: number[] = [];
  let firstFree = 0;
  let end = 0;

  function grow(slot: number): void {
    const size = (slot >>> 5) + 2;
    if (size <= taken.length) return;
    const grown = (old: Int32Array): Int32Array<ArrayBuffer> => {
      const copy = new Int32Array(Math.max(size, old.length * 2));
      copy.set(old);
      return copy;
    };
    taken = grown(taken);
    bases = grown(bases);
  }

  /** Bit k is set when slot `at + k` is taken. Beyond the array everything is free. */
  function takenFrom(at: number): number {
    const word = at >>> 5;
    const shift = at & 31;
    const low = taken[word] ?? 0;
    return shift === 0 ? low : (low >>> shift) | ((taken[word + 1] ?? 0) << (32 - shift));
  }

  return {
    findBase(codes) {
      const first = codes[0] ?? 0;
      const isSingle = codes.length === 1;
      const lastBase = (isSingle ? lastSingleBases[first] : lastBases[codes.length]) ?? 0;
      const start = Math.max(0, firstFree - first, lastBase) >>> 5;
      const stop = Math.max(0, end - first) >>> 5;
      for (let block = start; block < stop; block++) {
        let conflicts = bases[block] ?? 0;
        for (let index = 0; index < codes.length && conflicts !== -1; index++) {
          conflicts |= takenFrom(block * 32 + (codes[index] ?? 0));
        }
        if (conflicts === -1) continue;
        const base = block * 32 + (31 - Math.clz32(~conflicts & -~conflicts));
        if (isSingle) lastSingleBases[first] = base;
        else lastBases[codes.length] = base;
        return base;
      }
      let base = Math.max(1, end - first);
      while (((bases[base >>> 5] ?? 0) >>> (base & 31)) & 1) base++;
      return base;
    },
    take(slot) {
      grow(slot);
      taken[slot >>> 5] |= 1 << (slot & 31);
      while (((taken[firstFree >>> 5] ?? 0) >>> (firstFree & 31)) & 1) firstFree++;
      end = Math.max(end, slot + 1);
    },
    takeBase(base) {
      grow(base);
      bases[base >>> 5] |= 1 << (base & 31);
    },
    end: () => end,
  };
}
