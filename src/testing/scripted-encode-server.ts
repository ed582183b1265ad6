import { decodeJsonBody } from '../reply/decode-json.ts';
import { decodeMsgpackBody } from '../reply/decode-msgpack.ts';
import { encodeReply } from '../reply/encode-reply.ts';
import type { EncodeReply } from '../reply/reply-content.ts';

/** A request to `/encode` as the scripted server saw it. */
export interface ScriptedRequest {
  /** Counted from 0. */
  readonly index: number;
  readonly path: string;
  readonly headers: Headers;
  /** The decoded body; for a GET an empty object. */
  readonly body: { readonly query?: readonly string[] } & Readonly<Record<string, unknown>>;
  /** Fires when the client has hung up. */
  readonly signal: AbortSignal;
}

/** A server on a free port of the loopback whose every answer a test writes. */
export interface ScriptedEncodeServer {
  readonly url: string;
  /** Every request so far, in the order of arrival. */
  readonly requests: readonly ScriptedRequest[];
  /** Most requests that were being answered at the same time. */
  readonly concurrencyPeak: number;
  close(): Promise<void>;
}

/**
 * Starts one.
 *
 * @param answer called once for each request; may wait for as long as the test likes.
 */
export function startScriptedEncodeServer(
  answer: (request: ScriptedRequest) => Response | Promise<Response>,
): ScriptedEncodeServer {
  const requests: ScriptedRequest[] = [];
  let answeringCount = 0;
  let concurrencyPeak = 0;
  const server = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    idleTimeout: 0,
    async fetch(raw) {
      const body = raw.method === 'POST' ? await bodyOf(raw) : {};
      const { headers, signal } = raw;
      const path = new URL(raw.url).pathname;
      const request = { index: requests.length, path, headers, body, signal };
      requests.push(request);
      answeringCount++;
      concurrencyPeak = Math.max(concurrencyPeak, answeringCount);
      try {
        return await answer(request);
      } finally {
        answeringCount--;
      }
    },
  });
  return {
    url: `http://127.0.0.1:${server.port}`,
    requests,
    get concurrencyPeak() {
      return concurrencyPeak;
    },
    close: () => server.stop(true),
  };
}

async function bodyOf(request: Request): Promise<ScriptedRequest['body']> {
  const bytes = await request.bytes();
  const isMsgpack = request.headers.get('content-type') === 'application/msgpack';
  return (isMsgpack ? decodeMsgpackBody(bytes) : decodeJsonBody(bytes)) as ScriptedRequest['body'];
}

/** Length of the scripted rows. Odd and small, so that a mistake of one row or one value shows. */
export const SCRIPTED_DIMENSION = 3;

/** The row that stands for a text: its length, its first and its last UTF-16 unit. */
export function scriptedRow(text: string): Float32Array {
  return Float32Array.of(text.length, text.charCodeAt(0), text.charCodeAt(text.length - 1));
}

/**
 * What the server answers to these texts, in the server's own codec. `changes` replaces parts of
 * it.
 */
export function scriptedReply(
  texts: readonly string[],
  changes: Partial<EncodeReply> = {},
): Response {
  const reply: EncodeReply = {
    model: 'scripted',
    dimension: SCRIPTED_DIMENSION,
    single: false,
    rows: texts.map(scriptedRow),
    tokenCounts: texts.map((text) => text.length),
    truncated: texts.map(() => false),
    ...changes,
  };
  const format = { kind: 'msgpack', layout: 'plain', dtype: 'float32' } as const;
  const { body, contentType } = encodeReply(reply, format);
  return new Response(body, { headers: { 'content-type': contentType } });
}

/** An error in the server's shape. */
export function scriptedError(
  status: number,
  fields: { code: string; retryable: boolean } & Record<string, unknown>,
  headers: Record<string, string> = {},
): Response {
  const error = { message: `Scripted ${fields.code}.`, request_id: 'scripted-1', ...fields };
  return Response.json({ error }, { status, headers });
}
