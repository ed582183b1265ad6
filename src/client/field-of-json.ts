import { APIEncoderError } from './api-encoder-error.ts';

interface TypeOf {
  readonly string: string;
  readonly number: number;
}

/**
 * One field of a JSON reply.
 *
 * @param body borrowed.
 * @throws APIEncoderError CLIENT_REPLY_INVALID unless it is there and has the type.
 */
export function fieldOfJson<Type extends keyof TypeOf>(
  body: Uint8Array,
  field: string,
  type: Type,
): TypeOf[Type] {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(body))[field];
    if (typeof value === type) return value as TypeOf[Type];
  } catch {
    // What is no JSON, or null, has no field either.
  }
  throw new APIEncoderError('CLIENT_REPLY_INVALID', `The reply has no ${field}; is it JSON?`);
}
