import { ServerError } from '../base/errors.ts';
import type { ModelManifest } from '../model/manifest.ts';
import type { Fields } from './field-checks.ts';

/**
 * The dimension that a request wants its rows to have: the model's own unless `dimensions` says
 * otherwise.
 *
 * @throws ServerError EMB_FIELD_INVALID for one that the model was not trained to be cut to.
 */
export function dimensionOf(fields: Fields, manifest: ModelManifest): number {
  const value = fields.dimensions;
  if (value === undefined || value === null) return manifest.dimension;
  const known = [manifest.dimension, ...manifest.shortDimensions];
  const dimension = known.find((size) => size === value);
  if (dimension !== undefined) return dimension;
  const said = typeof value === 'number' && Number.isFinite(value) ? value : `a ${typeof value}`;
  const wanted = known.join(' or ');
  throw new ServerError(
    'EMB_FIELD_INVALID',
    `dimensions must be ${wanted} for ${manifest.id}, not ${said}: cut, its vectors mean nothing.`,
    { field: 'dimensions', limit: wanted, value: said },
  );
}

/**
 * Rows cut to their first values and scaled to length one again; the same rows when there is
 * nothing to cut.
 *
 * @param rows borrowed.
 */
export function shortRows(
  rows: readonly Float32Array[],
  dimension: number,
): readonly Float32Array[] {
  if (rows.every((row) => row.length === dimension)) return rows;
  return rows.map((row) => {
    const cut = row.subarray(0, dimension);
    const norm = Math.hypot(...cut);
    return norm === 0 ? cut : cut.map((value) => value / norm);
  });
}
