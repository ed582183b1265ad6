/** What a model can give: one vector a text, one weight a token, one vector a token. */
export type Head = 'dense' | 'sparse' | 'multi_vector';

/** Every head, in the order in which sets of them are kept. */
export const HEADS = ['dense', 'sparse', 'multi_vector'] as const satisfies readonly Head[];

/**
 * The sets of heads by bit mask; the first is empty. Heads are compared by identity on the hot
 * path.
 */
const HEAD_SETS: readonly (readonly Head[])[] = Array.from({ length: 8 }, (_, mask) =>
  HEADS.filter((_head, bit) => (mask & (1 << bit)) !== 0),
);

/** The one array that stands for a set of heads, in the order dense, sparse, multi-vector. */
export function headSet(heads: readonly Head[]): readonly Head[] {
  return HEAD_SETS[heads.reduce((mask, head) => mask | (1 << HEADS.indexOf(head)), 0)];
}

/** How many float32 values a head has for one text that is padded to `paddedLength` tokens. */
export function valuesPerText(
  head: Head,
  size: { dimension: number; paddedLength: number },
): number {
  if (head === 'dense') return size.dimension;
  if (head === 'sparse') return size.paddedLength;
  return (size.paddedLength - 1) * size.dimension;
}
