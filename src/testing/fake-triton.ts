import type { Socket } from 'node:net';
import {
  type FakeInferRequest,
  type FakeReply,
  readInferRequest,
  rightReply,
  writeReply,
} from './fake-triton-wire.ts';
import { type RawHttpServer, type RawRequest, startRawHttpServer } from './raw-http-server.ts';

/** What the fake does with one infer request that it has read whole. */
export type FakeBehaviour =
  | { readonly kind: 'answer' }
  /** Answers, but not before this has come true. */
  | { readonly kind: 'hold'; readonly until: Promise<void> }
  /** Says nothing, and keeps the connection: a half-open socket, a process that hangs. */
  | { readonly kind: 'stall' }
  /** Sends the first bytes of a status line, and no more. */
  | { readonly kind: 'half-header' }
  /** Sends right headers and half of the body, and keeps the connection. */
  | { readonly kind: 'half-body' }
  /** The same, then ends the connection. */
  | { readonly kind: 'truncate' }
  /** Resets the connection. */
  | { readonly kind: 'reset' }
  /**
   * Compresses although identity was asked for; the header length is of the plain bytes, as Triton
   * has it.
   */
  | { readonly kind: 'gzip' }
  | { readonly kind: 'status'; readonly status: number; readonly body: string }
  /** Answers 200 and a reply that `change` has made wrong. */
  | { readonly kind: 'lie'; readonly change: (reply: FakeReply) => void };

/** One infer request, and how the fake saw it. */
export interface FakeInference extends FakeInferRequest {
  readonly connectionIndex: number;
  /**
   * Whether the caller asked to end the connection after the reply, as for one that is not to be
   * pooled.
   */
  readonly isLastOnConnection: boolean;
  /** The W3C trace context that came along. */
  readonly traceparent: string | undefined;
  readonly authorization: string | undefined;
}

/** Speaks Triton's protocol as far as the server needs it, and misbehaves on command. */
export interface FakeTriton {
  /** `http://127.0.0.1:port`; the same after a restart. */
  readonly url: string;
  /** Every infer request, oldest first: the probes of an endpoint too. */
  readonly inferences: readonly FakeInference[];
  /** All requests, by `METHOD path`. */
  readonly calls: readonly string[];
  /**
   * What was wrong in what it received; a test expects none. It never throws into the code under
   * test.
   */
  readonly problems: readonly string[];
  /** Connections that are open. */
  readonly connectionCount: number;
  /** From now on. */
  behave(behaviour: FakeBehaviour): void;
  /**
   * For the next batch only; several are used up in order. A probe, one text of two tokens, uses up
   * none.
   */
  behaveOnce(behaviour: FakeBehaviour): void;
  /** From now on it takes connections and says nothing at all, to whatever: a stopped process. */
  hang(): void;
  /** Ends every connection and frees the port. */
  stop(): Promise<void>;
  /** Listens again on the same port. */
  restart(): Promise<void>;
}

/** What the fake serves, and how. */
export interface FakeTritonOptions {
  readonly model: string;
  readonly datatype: 'INT64' | 'INT32';
  readonly dimension: number;
  readonly batchTextsMax: number;
  readonly output?: string;
}

const PAD_ID = 1;

export async function startFakeTriton(options: FakeTritonOptions): Promise<FakeTriton> {
  const output = { name: options.output ?? 'dense_vecs', dimension: options.dimension };
  const inferences: FakeInference[] = [];
  const calls: string[] = [];
  const problems: string[] = [];
  const once: FakeBehaviour[] = [];
  let lasting: FakeBehaviour = { kind: 'answer' };
  let isHanging = false;

  function onRequest(request: RawRequest, socket: Socket): void {
    calls.push(`${request.method} ${request.path}`);
    if (isHanging) return;
    const modelPath = `/v2/models/${options.model}`;
    if (request.path === modelPath) sendJson(socket, 200, metadataOf(options, output.name));
    else if (request.path === `${modelPath}/config`) {
      sendJson(socket, 200, { max_batch_size: options.batchTextsMax });
    } else if (request.path === `${modelPath}/infer`) onInfer(request, socket);
    else sendJson(socket, 404, { error: `no ${request.path}` });
  }

  function onInfer(request: RawRequest, socket: Socket): void {
    const { datatype } = options;
    const read = readInferRequest(request.body, request.headers, { datatype, padId: PAD_ID });
    const { connectionIndex } = request;
    const isLastOnConnection = request.headers.get('connection') === 'close';
    const traceparent = request.headers.get('traceparent');
    const authorization = request.headers.get('authorization');
    inferences.push({ ...read, connectionIndex, isLastOnConnection, traceparent, authorization });
    problems.push(...read.problems);
    const isProbe = read.texts.length === 1 && read.texts[0]?.length === 2;
    const behaviour = isProbe ? lasting : (once.shift() ?? lasting);
    misbehave(behaviour, rightReply(read.texts, output), socket);
  }

  const listen = (port: number): Promise<RawHttpServer> =>
    startRawHttpServer({ port, onRequest, onProblem: (problem) => problems.push(problem) });
  let server = await listen(0);
  const { port } = server;
  return {
    url: `http://127.0.0.1:${port}`,
    inferences,
    calls,
    problems,
    get connectionCount() {
      return server.connectionCount;
    },
    behave(behaviour) {
      lasting = behaviour;
    },
    hang() {
      isHanging = true;
    },
    behaveOnce(behaviour) {
      once.push(behaviour);
    },
    stop: () => server.stop(),
    async restart() {
      server = await listen(port);
    },
  };
}

function metadataOf(options: FakeTritonOptions, outputName: string): object {
  const { datatype } = options;
  return {
    name: options.model,
    inputs: ['input_ids', 'attention_mask'].map((name) => ({ name, datatype, shape: [-1, -1] })),
    outputs: [{ name: outputName, datatype: 'FP32', shape: [-1, options.dimension] }],
  };
}

function misbehave(behaviour: FakeBehaviour, reply: FakeReply, socket: Socket): void {
  switch (behaviour.kind) {
    case 'answer':
      sendReply(socket, reply);
      break;
    case 'hold':
      void behaviour.until.then(() => sendReply(socket, reply));
      break;
    case 'lie':
      behaviour.change(reply);
      sendReply(socket, reply);
      break;
    case 'gzip':
      sendReply(socket, reply, { isCompressed: true });
      break;
    case 'half-body':
      sendReply(socket, reply, { share: 0.5 });
      break;
    case 'truncate':
      sendReply(socket, reply, { share: 0.5 });
      socket.end();
      break;
    case 'half-header':
      socket.write('HTTP/1.1 200 O');
      break;
    case 'reset':
      socket.resetAndDestroy();
      break;
    case 'status':
      sendBytes(socket, behaviour.status, Buffer.from(behaviour.body), []);
      break;
    case 'stall':
      break;
  }
}

function sendReply(
  socket: Socket,
  reply: FakeReply,
  { isCompressed = false, share = 1 } = {},
): void {
  const { body, headerLength } = writeReply(reply);
  const headers = ['Content-Type: application/octet-stream'];
  if (headerLength !== undefined) headers.push(`Inference-Header-Content-Length: ${headerLength}`);
  if (isCompressed) headers.push('Content-Encoding: gzip');
  const sent = isCompressed ? Buffer.from(Bun.gzipSync(Uint8Array.from(body))) : body;
  sendBytes(socket, 200, sent, headers, share);
}

function sendJson(socket: Socket, status: number, body: object): void {
  sendBytes(socket, status, Buffer.from(JSON.stringify(body)), ['Content-Type: application/json']);
}

function sendBytes(
  socket: Socket,
  status: number,
  body: Buffer,
  headers: readonly string[],
  share = 1,
): void {
  const lines = [`HTTP/1.1 ${status} Fake`, ...headers, `Content-Length: ${body.length}`];
  const part = body.subarray(0, Math.floor(body.length * share));
  socket.write(Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`), part]));
}
