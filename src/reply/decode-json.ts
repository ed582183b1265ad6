import { ServerError } from '../base/errors.ts';
import { findDepthFault, JSON_DEPTH_MAX } from './json-depth.ts';
import { findJsonFault } from './json-fault.ts';
import { findUtf8Fault } from './utf8-fault.ts';

// `fatal`: broken UTF-8 must not become U+FFFD and be embedded. A byte order mark at the start is
// dropped, as RFC 8259 allows.
const decoder = new TextDecoder('utf-8', { fatal: true });

/**
 * Parses a request body as JSON, in strict UTF-8.
 *
 * @param body borrowed.
 * @throws ServerError `EMB_BODY_MALFORMED`; the message names the byte, counted from zero, and
 * shows nothing of the body.
 */
export function decodeJsonBody(body: Uint8Array): unknown {
  const tooDeepAt = findDepthFault(body);
  if (tooDeepAt >= 0) throw malformed(tooDeepAt, `nested deeper than ${JSON_DEPTH_MAX} levels`);
  let source: string;
  try {
    source = decoder.decode(body);
  } catch (cause) {
    throw malformed(findUtf8Fault(body), 'that is no UTF-8', cause);
  }
  try {
    return JSON.parse(source);
  } catch (cause) {
    // The engine's message has no position, and may quote the body. A second look is made only now
    // that it failed.
    const fault = findJsonFault(body) ?? { at: body.length, expected: 'other JSON' };
    throw malformed(fault.at, `where ${fault.expected} was expected`, cause);
  }
}

function malformed(at: number, what: string, cause?: unknown): ServerError {
  return new ServerError('EMB_BODY_MALFORMED', `The JSON body breaks at byte ${at}, ${what}.`, {
    field: 'body',
    value: at,
    cause,
  });
}
