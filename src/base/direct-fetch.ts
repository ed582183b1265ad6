/**
 * `fetch` that never takes a proxy from the environment. For calls to parts of the same
 * installation: Triton, health checks, loopback. `HTTP_PROXY` stands in the environment of every
 * container of many clusters, token ids must not leave through it, and `NO_PROXY` does not help
 * with names that were resolved before.
 *
 * What is meant for others, downloads and exported traces, calls `fetch` itself: Bun then heeds
 * `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.
 *
 * Own file because the decision has one place.
 */
export function directFetch(url: string | URL, init: RequestInit = {}): Promise<Response> {
  // Of Bun 1.4 only `false` does it: '', null and undefined leave the environment's proxy on. Its
  // types do not know the word.
  const direct: object = { ...init, proxy: false };
  return fetch(url, direct);
}
