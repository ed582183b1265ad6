import { ServerError } from '../base/errors.ts';
import { decodeJsonBody } from '../reply/decode-json.ts';
import { decodeMsgpackBody } from '../reply/decode-msgpack.ts';

/**
 * Reads and decodes a request body by its Content-Type; one that is missing means JSON.
 *
 * @throws ServerError EMB_CONTENT_TYPE_UNSUPPORTED, EMB_BODY_TOO_LARGE, EMB_BODY_MALFORMED or
 * EMB_REQUEST_ABORTED.
 */
export async function readBody(request: Request, bodyBytesMax: number): Promise<unknown> {
  const decode = decoderFor(request.headers.get('content-type'));
  return decode(await readBytes(request, bodyBytesMax));
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

/** A body of declared length is refused unread; one without is counted as it comes. */
async function readBytes(request: Request, bodyBytesMax: number): Promise<Uint8Array> {
  const declared = Number(request.headers.get('content-length') ?? Number.NaN);
  if (declared > bodyBytesMax) throw tooLarge(bodyBytesMax, declared);
  try {
    if (declared >= 0) return new Uint8Array(await request.arrayBuffer());
    return await readChunks(request, bodyBytesMax);
  } catch (cause) {
    if (cause instanceof ServerError) throw cause;
    const message = 'The caller hung up before its body was whole.';
    throw new ServerError('EMB_REQUEST_ABORTED', message, { cause });
  }
}

async function readChunks(request: Request, bodyBytesMax: number): Promise<Uint8Array> {
  if (request.body === null) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let byteCount = 0;
  for await (const chunk of request.body) {
    byteCount += chunk.length;
    if (byteCount > bodyBytesMax) throw tooLarge(bodyBytesMax, byteCount);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, byteCount);
}

function tooLarge(limit: number, value: number): ServerError {
  const message = `The body has ${value} bytes or more, the limit is ${limit}.`;
  return new ServerError('EMB_BODY_TOO_LARGE', message, { field: 'body', limit, value });
}
