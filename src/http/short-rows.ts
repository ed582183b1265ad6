import type { ModelManifest } from '../model/manifest.ts';
import { type Field, invalid, invalidWord } from './fields.ts';

/** Rows with fewer dimensions than the model gives: the field that asks for them, and the cut. */

/**
 * The dimension that the rows are to have: the model's own unless the field says otherwise. It is
 * refused with EMB_FIELD_INVALID where the model was not trained to be cut to it.
 */
export function dimensionField(manifest: ModelManifest): Field<number> {
  const known = [manifest.dimension, ...manifest.shortDimensions];
  return {
    schema: { type: 'integer', nullable: true, enum: [...known, 0, null] },
    isRequired: false,
    read(value, at) {
      // Infinity's client sends 0 for what its user left out.
      if (value === undefined || value === null || value === 0) return manifest.dimension;
      const dimension = known.find((size) => size === value);
      if (dimension !== undefined) return dimension;
      const wanted = known.join(' or ');
      const advice = `${wanted} for ${manifest.id}, whose vectors mean nothing when they are cut`;
      throw invalidWord(at, advice, value);
    },
  };
}

/**
 * The dimension asked for where an API has two names for it; the model's own counts as unset.
 *
 * @throws ServerError EMB_FIELD_INVALID when both are set, to two sizes.
 */
export function askedDimension(
  { dimension: own }: ModelManifest,
  asked: Readonly<Record<string, number>>,
): number {
  let found = own;
  for (const [at, size] of Object.entries(asked)) {
    if (size === own) continue;
    if (found !== own && found !== size) throw invalid(at, `${found}, as asked before`, size);
    found = size;
  }
  return found;
}

/**
 * Rows cut to their first values and scaled to unit norm again; the same rows when there is nothing
 * to cut. A text without a row stays without.
 *
 * @param rows borrowed.
 */
export function shortRows(
  rows: readonly Float32Array[],
  dimension: number,
): readonly Float32Array[] {
  if (rows.every((row) => row.length === dimension)) return rows;
  return rows.map((row) => {
    if (row.length === 0) return row;
    const cut = row.subarray(0, dimension);
    const norm = Math.hypot(...cut);
    return norm === 0 ? cut : cut.map((value) => value / norm);
  });
}
