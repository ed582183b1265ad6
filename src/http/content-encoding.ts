import { promisify } from 'node:util';
import { brotliDecompress, gunzip, inflate, inflateRaw, zstdDecompress } from 'node:zlib';
import { ServerError } from '../base/errors.ts';

/** Bodies that come packed: `Content-Encoding`. */

type Unpack = (body: Uint8Array, limits: { maxOutputLength: number }) => Promise<Uint8Array>;

/** Off the main thread, each. */
const UNPACKERS = {
  gzip: promisify(gunzip) as Unpack,
  deflate: inflateEither,
  br: promisify(brotliDecompress) as Unpack,
  zstd: promisify(zstdDecompress) as Unpack,
} as const satisfies Record<string, Unpack>;

/** An encoding that is taken. */
export type ContentEncoding = keyof typeof UNPACKERS;

const KNOWN = Object.keys(UNPACKERS).join(', ');

/**
 * How a body is packed; undefined when it is not.
 *
 * @param said the header's value.
 * @throws ServerError EMB_CONTENT_ENCODING_UNSUPPORTED.
 */
export function parseContentEncoding(said: string): ContentEncoding | undefined {
  const word = said
    .trim()
    .toLowerCase()
    .replace(/^x-gzip$/, 'gzip');
  if (word === '' || word === 'identity') return undefined;
  if (Object.hasOwn(UNPACKERS, word)) return word as ContentEncoding;
  const value = said.slice(0, 100);
  throw new ServerError(
    'EMB_CONTENT_ENCODING_UNSUPPORTED',
    `Content-Encoding "${value}" is not taken; send one of ${KNOWN}, or none.`,
    { field: 'content-encoding', limit: KNOWN, value, acceptEncoding: KNOWN },
  );
}

/**
 * Unpacks a body.
 *
 * @param body borrowed.
 * @returns undefined when more than `bytesMax` comes out; no more is ever made.
 * @throws ServerError EMB_BODY_MALFORMED.
 */
export async function unpack(
  body: Uint8Array,
  encoding: ContentEncoding,
  bytesMax: number,
): Promise<Uint8Array | undefined> {
  try {
    return await UNPACKERS[encoding](body, { maxOutputLength: bytesMax });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') return undefined;
    const message = `The body is no ${encoding}, which its Content-Encoding says, or ends too soon.`;
    const details = { field: 'content-encoding', value: encoding, cause };
    throw new ServerError('EMB_BODY_MALFORMED', message, details);
  }
}

/** The standard says zlib (RFC 9110); some clients have always sent it without zlib's header. */
async function inflateEither(body: Uint8Array, limits: { maxOutputLength: number }) {
  const isZlib = (body[0] & 0x0f) === 8 && ((body[0] << 8) | body[1]) % 31 === 0;
  return await promisify(isZlib ? inflate : inflateRaw)(body, limits);
}
