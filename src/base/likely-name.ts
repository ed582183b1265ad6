/**
 * Which known name was meant, where somebody has mistyped one. Names of under eight letters may
 * differ by one letter, others by two: among short ones two letters make another word.
 *
 * @returns undefined when none is that near.
 */
export function likelyName(name: string, known: Iterable<string>): string | undefined {
  let nearest: string | undefined;
  let distanceMax = Number.POSITIVE_INFINITY;
  for (const candidate of known) {
    const allowed = candidate.length < LONG_NAME ? 1 : 2;
    if (Math.abs(candidate.length - name.length) > allowed) continue;
    const distance = editDistance(name, candidate);
    if (distance > allowed || distance >= distanceMax) continue;
    nearest = candidate;
    distanceMax = distance;
  }
  return nearest;
}

const LONG_NAME = 8;

/** Letters added, left out, replaced, or swapped with their neighbour, between two names. */
function editDistance(left: string, right: string): number {
  const rows = [Array.from({ length: right.length + 1 }, (_, column) => column)];
  for (let row = 1; row <= left.length; row++) {
    rows.push([row]);
    for (let column = 1; column <= right.length; column++) {
      const isSame = left[row - 1] === right[column - 1];
      const isSwapped = left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1];
      rows[row][column] = Math.min(
        rows[row - 1][column] + 1,
        rows[row][column - 1] + 1,
        rows[row - 1][column - 1] + (isSame ? 0 : 1),
        isSwapped ? rows[row - 2][column - 2] + 1 : Number.POSITIVE_INFINITY,
      );
    }
  }
  return rows[left.length][right.length];
}
