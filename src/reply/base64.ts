/**
 * Base64 of a row's bytes, little-endian float32: what OpenAI's clients ask for.
 *
 * @param row borrowed, and read in place.
 */
export function base64OfRow(row: Float32Array): string {
  return Buffer.from(row.buffer, row.byteOffset, row.byteLength).toString('base64');
}
