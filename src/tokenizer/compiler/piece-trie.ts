import { PIECE_NONE } from '../xlmr/route.ts';

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
