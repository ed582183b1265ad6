import type { Clock } from '../../base/clock.ts';
import { ServerError } from '../../base/errors.ts';
import { describeError, type Log } from '../../base/log.ts';
import type { BatchOutput, TokenBatch } from '../backend.ts';
import { type ExpectedModel, readTritonModel, type TritonModel } from './triton-metadata.ts';
import { decodeInferReply, encodeInferRequest } from './triton-wire.ts';

/** One Triton server. */
export interface TritonEndpoint {
  readonly url: string;
  /** The model, once a real inference has worked; undefined while the endpoint is down. */
  readonly model: TritonModel | undefined;
  /** Why it is down; empty while it is up. */
  readonly reason: string;
  readonly batchesInFlight: number;
  /**
   * Runs one batch, once. A failure on a fresh connection takes the endpoint down; on a pooled one,
   * of which any may be half open, it says nothing of the server.
   */
  infer(batch: TokenBatch, options: { isFreshConnection: boolean }): Promise<BatchOutput>;
  /** Takes the endpoint down until a probe has worked. */
  suspect(error: ServerError): void;
  close(): void;
}

/** Texts that prove an endpoint: `<s> </s>` of every XLM-R vocabulary. */
const PROBE_IDS = Int32Array.of(0, 2);

/** Request buffers kept for reuse: as many as batches usually are in flight. */
const BUFFERS_KEPT = 4;

export function createTritonEndpoint(options: {
  url: string;
  modelName: string;
  expected: ExpectedModel;
  timeoutMs: number;
  probeMs: number;
  /** Called each time the endpoint has come up or gone down. */
  onChange: () => void;
  clock: Clock;
  log: Log;
}): TritonEndpoint {
  const { url, modelName, timeoutMs, clock, log } = options;
  const modelUrl = `${url}/v2/models/${encodeURIComponent(modelName)}`;
  const buffers: ArrayBuffer[] = [];
  let model: TritonModel | undefined;
  let reason = `Triton at ${url} was not asked yet.`;
  let batchesInFlight = 0;
  let cancelProbe: () => void = () => undefined;
  let answeredMs = 0;
  let isClosed = false;

  /**
   * Reads the metadata and runs one real inference; the endpoint is up only when both have worked.
   */
  async function probe(): Promise<void> {
    try {
      const [metadata, config] = await Promise.all([
        getJson(modelUrl),
        getJson(`${modelUrl}/config`),
      ]);
      const found = readTritonModel(metadata, config, options.expected);
      const heads = options.expected.heads.filter((head) => head in found.signature.outputs);
      await send({ texts: [PROBE_IDS], paddedLength: PROBE_IDS.length, heads }, found, true);
      if (isClosed) return;
      if (model === undefined) {
        log.info('triton-up', { url, model: modelName, inputs: found.signature.inputDatatype });
      }
      model = found;
      reason = '';
      options.onChange();
      watch();
    } catch (error) {
      goDown(`Triton at ${url} cannot serve ${modelName}: ${describeError(error)}`);
    }
  }

  /**
   * Probes an endpoint that is up once no batch has told of it for a while: nothing else would
   * notice its end.
   */
  function watch(): void {
    cancelProbe();
    cancelProbe = clock.schedule(options.probeMs, () => {
      if (clock.now() - answeredMs < options.probeMs) watch();
      else void probe();
    });
  }

  function goDown(why: string): void {
    if (isClosed) return;
    if (why !== reason) log.warn('triton-down', { url, reason: why });
    model = undefined;
    reason = why;
    options.onChange();
    cancelProbe();
    cancelProbe = clock.schedule(options.probeMs, () => void probe());
  }

  const infer: TritonEndpoint['infer'] = async (batch, { isFreshConnection }) => {
    if (model === undefined) throw unavailable(reason);
    batchesInFlight++;
    try {
      return await send(batch, model, isFreshConnection);
    } catch (error) {
      const isDown = error instanceof ServerError && error.code === 'EMB_BACKEND_UNAVAILABLE';
      if (isDown && isFreshConnection) goDown(describeError(error.cause));
      throw error;
    } finally {
      batchesInFlight--;
    }
  };

  async function send(
    batch: TokenBatch,
    { signature }: TritonModel,
    isFreshConnection: boolean,
  ): Promise<BatchOutput> {
    const request = encodeInferRequest(batch, signature, takeBuffer);
    const reply = await call(`${modelUrl}/infer`, {
      method: 'POST',
      body: request.body,
      headers: {
        'Content-Type': 'application/octet-stream',
        'Inference-Header-Content-Length': String(request.headerBytes),
      },
      keepalive: !isFreshConnection,
    });
    // Only now has the whole request been read by the other side; a failed call never gives its
    // buffer back.
    if (buffers.length < BUFFERS_KEPT) buffers.push(request.body.buffer);
    if (reply.status !== 200) throw refusal(reply);
    answeredMs = clock.now();
    const length = reply.headers.get('inference-header-content-length');
    const headerBytes = length === null ? null : Number(length);
    return decodeInferReply(reply.body, headerBytes, { signature, batch });
  }

  function takeBuffer(bytes: number): ArrayBuffer {
    const kept = buffers.pop();
    return kept !== undefined && kept.byteLength >= bytes
      ? kept
      : new ArrayBuffer(2 ** Math.ceil(Math.log2(bytes)));
  }

  async function getJson(address: string): Promise<unknown> {
    const reply = await call(address, { keepalive: false });
    if (reply.status !== 200) throw refusal(reply);
    return JSON.parse(new TextDecoder().decode(reply.body));
  }

  /** One HTTP call with a deadline that covers the body too. */
  async function call(address: string, init: RequestInit): Promise<RawReply> {
    const controller = new AbortController();
    let isLate = false;
    const cancelDeadline = clock.schedule(timeoutMs, () => {
      isLate = true;
      controller.abort();
    });
    try {
      const response = await fetch(address, {
        ...init,
        // Left to itself the runtime asks for gzip, and Triton then compresses vectors: thirty
        // times slower.
        headers: { ...init.headers, 'Accept-Encoding': 'identity' },
        signal: controller.signal,
        redirect: 'manual',
      });
      const { status, headers } = response;
      return { status, headers, body: await response.bytes() };
    } catch (cause) {
      if (isLate) {
        const message = `The backend did not answer within ${timeoutMs} ms.`;
        throw new ServerError('EMB_BACKEND_TIMEOUT', message, { limit: timeoutMs, cause });
      }
      throw unavailable(`the connection to ${url} failed`, cause);
    } finally {
      cancelDeadline();
    }
  }

  void probe();
  return {
    url,
    get model() {
      return model;
    },
    get reason() {
      return reason;
    },
    get batchesInFlight() {
      return batchesInFlight;
    },
    infer,
    suspect: (error) => goDown(describeError(error.cause ?? error)),
    close() {
      isClosed = true;
      model = undefined;
      reason = 'The server is shutting down.';
      options.onChange();
      cancelProbe();
    },
  };
}

interface RawReply {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Uint8Array<ArrayBuffer>;
}

/**
 * What a status other than 200 means: the server is not there for now, or it will never take this
 * batch.
 */
function refusal(reply: RawReply): ServerError {
  const said = new TextDecoder().decode(reply.body.subarray(0, 500));
  const cause = new Error(`Triton answered ${reply.status}: ${said}`);
  const isAway = reply.status === 503 || reply.status === 404;
  if (isAway) return unavailable(cause.message);
  return new ServerError('EMB_BACKEND_FAILED', 'The backend refused this batch.', { cause });
}

function unavailable(why: string, cause?: unknown): ServerError {
  return new ServerError('EMB_BACKEND_UNAVAILABLE', 'The backend is not available.', {
    cause: new Error(why, { cause }),
  });
}
