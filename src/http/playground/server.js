/** An error that the server told, or that there was no server. */
export class CallError extends Error {
  constructor({ status, code, message, requestId, retryAfterMs, limit }) {
    super(message);
    Object.assign(this, { status, code, requestId, retryAfterMs, limit });
  }
}

/**
 * Where the server is, without a slash at the end: the folder of these scripts is below it, also
 * behind a proxy that gives it a path of its own.
 */
export const SERVER_URL = new URL('..', import.meta.url).href.replace(/\/$/, '');

let apiKey = '';

/** Kept in the page's memory alone; empty for none. */
export function setApiKey(key) {
  apiKey = key;
}

/** `GET` or, with a body, `POST`. Answers the JSON, the stages in ms, and the total in ms. */
export async function call(path, body) {
  const startMs = performance.now();
  const headers = { accept: 'application/json', 'x-server-timing': '1' };
  if (apiKey !== '') headers.authorization = `Bearer ${apiKey}`;
  const init = { headers };
  if (body !== undefined) {
    init.method = 'POST';
    init.body = JSON.stringify(body);
    headers['content-type'] = 'application/json';
  }
  let reply;
  let json;
  try {
    reply = await fetch(SERVER_URL + path, init);
    json = await reply.json();
  } catch (error) {
    throw new CallError({ status: 0, code: 'offline', message: error.message });
  }
  const totalMs = performance.now() - startMs;
  if (!reply.ok && path !== '/ready') throw errorOf(reply, json);
  return { json, totalMs, stages: stagesOf(reply.headers.get('server-timing')) };
}

/** Our own routes nest the error; those of text-embeddings-inference do not. */
function errorOf(reply, json) {
  const told = typeof json.error === 'object' ? json.error : { ...json, message: json.error };
  return new CallError({
    status: reply.status,
    code: told.code ?? String(reply.status),
    message: told.message ?? reply.statusText,
    requestId: told.request_id,
    limit: told.limit,
    retryAfterMs: Number(reply.headers.get('retry-after-ms') ?? 0),
  });
}

function stagesOf(header) {
  return (header ?? '')
    .split(',')
    .map((part) => /^\s*([\w-]+);dur=([\d.]+)/.exec(part))
    .filter((match) => match !== null)
    .map(([, name, ms]) => ({ name, ms: Number(ms) }));
}

/**
 * The texts by all heads that the running model has: a head that it lacks is left out at the second
 * try.
 */
export async function encodeTexts({ texts, heads, inputType, truncate }) {
  const body = { query: texts, input_type: inputType, truncate };
  try {
    const reply = await call('/encode', { ...body, outputs: heads });
    return { ...reply, heads, body: { ...body, outputs: heads } };
  } catch (error) {
    if (error.code !== 'EMB_HEAD_UNAVAILABLE') throw error;
    const known = String(error.limit).split(', ');
    const left = heads.filter((head) => known.includes(head));
    if (left.length === 0 || left.length === heads.length) throw error;
    return encodeTexts({ texts, heads: left, inputType, truncate });
  }
}
