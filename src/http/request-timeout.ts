import { ServerError } from '../base/errors.ts';

/** Header by which a caller says how long it waits, in ms. */
const TIMEOUT_HEADER = 'x-timeout-ms';

/**
 * How long the caller waits, when it says so; the server's own deadline holds all the same.
 *
 * @throws ServerError EMB_FIELD_INVALID unless it is a whole number of at least 1.
 */
export function timeoutOf(request: Request): number | undefined {
  const raw = request.headers.get(TIMEOUT_HEADER);
  if (raw === null) return undefined;
  const timeoutMs = Number(raw);
  if (Number.isSafeInteger(timeoutMs) && timeoutMs >= 1) return timeoutMs;
  const message = `${TIMEOUT_HEADER} must be a whole number of ms, at least 1.`;
  const details = { field: TIMEOUT_HEADER, limit: 1, value: raw.slice(0, 32) };
  throw new ServerError('EMB_FIELD_INVALID', message, details);
}
