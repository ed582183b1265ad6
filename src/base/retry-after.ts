/**
 * Below, clients would hammer. From a minute on, the SDKs of OpenAI and of Vercel pass over what
 * they are told, and come back after seconds.
 */
const RETRY_MS_MIN = 50;
const RETRY_MS_MAX = 55_000;

/**
 * What a caller who is refused for want of room is told to wait.
 *
 * @param waitMs when there is expected to be room, in ms.
 * @returns whole ms, within bounds.
 */
export function retryAfterMsOf(waitMs: number): number {
  return Math.ceil(Math.min(RETRY_MS_MAX, Math.max(RETRY_MS_MIN, waitMs)));
}
