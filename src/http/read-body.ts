import { ServerError } from '../base/errors.ts';
import { decodeJsonBody } from '../reply/decode-json.ts';
import { decodeMsgpackBody } from '../reply/decode-msgpack.ts';
import type { BodyIntake } from './body-intake.ts';

/** What bounds a body: its own size, and what all bodies together may take. */
export interface BodyLimits {
  readonly bodyBytesMax: number;
  readonly bodyIntake: BodyIntake;
}

/**
 * Reads and decodes a request body by its Content-Type; one that is missing means JSON.
 *
 * @throws ServerError EMB_CONTENT_TYPE_UNSUPPORTED, EMB_BODY_MALFORMED, or as `BodyIntake`.
 */
export async function readBody(request: Request, limits: BodyLimits): Promise<unknown> {
  const decode = decoderFor(request.headers.get('content-type'));
  return decode(await limits.bodyIntake.read(request, limits.bodyBytesMax));
}

function decoderFor(contentType: string | null): (body: Uint8Array) => unknown {
  if (contentType === null || contentType === 'application/json') return decodeJsonBody;
  const [media, ...parameters] = contentType.toLowerCase().split(';');
  const charset = parameters.find((parameter) => parameter.trim().startsWith('charset='));
  const isUtf8 = charset === undefined || /^\s*charset="?utf-?8"?\s*$/.test(charset);
  if (isUtf8) {
    if (JSON_TYPES.has(media.trim())) return decodeJsonBody;
    if (MSGPACK_TYPES.has(media.trim())) return decodeMsgpackBody;
  }
  throw new ServerError(
    'EMB_CONTENT_TYPE_UNSUPPORTED',
    `Content-Type "${contentType.slice(0, 100)}" is not known; send application/json (UTF-8) or application/msgpack.`,
    {
      field: 'content-type',
      limit: 'application/json, application/msgpack',
      value: contentType.slice(0, 100),
    },
  );
}

const JSON_TYPES: ReadonlySet<string> = new Set(['application/json', 'text/json']);
const MSGPACK_TYPES: ReadonlySet<string> = new Set([
  'application/msgpack',
  'application/x-msgpack',
  'application/vnd.msgpack',
]);
