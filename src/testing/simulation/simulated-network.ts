import { createTritonBackend, type TritonBackend } from '../../backend/triton/triton-backend.ts';
import {
  type TritonCall,
  type TritonReply,
  type TritonRequest,
  unavailable,
} from '../../backend/triton/triton-call.ts';
import type { Clock } from '../../base/clock.ts';
import { ServerError } from '../../base/errors.ts';
import { createLog } from '../../base/log.ts';
import { readInferRequest, rightReply, writeReply } from '../fake-triton-wire.ts';
import type { VirtualClock } from '../virtual-clock.ts';

/** What a simulated server does with what it is asked. */
export type ServerMood =
  | 'well'
  /** Takes ten times as long. */
  | 'slow'
  /** Takes everything and answers nothing. */
  | 'hung'
  /** The same over connections that it had; new ones are served. */
  | 'half-open'
  /** Refuses connections, and cuts those it has. */
  | 'dead'
  /** Lives, and answers 500 to every inference: its model has crashed. */
  | 'crashed'
  /** 503 to every inference. */
  | 'busy'
  /** Rows of another model under the same name. */
  | 'other-model'
  /**
   * A bad row in each batch of several: not finite, of half the length, or a copy of its neighbour.
   */
  | 'nan-rows'
  | 'short-rows'
  | 'copied-rows'
  | 'empty';

export const DIMENSION = 8;
export const MODEL = 'simulated';

/** Batches that a simulated server has at most. */
export const SIMULATED_IN_FLIGHT = 2;

/** A text with this id as its second crashes the server that runs it. */
export const KILLER_ID = 666;
/** A text with this one is refused with 400, and its batch with it. */
export const POISON_ID = 667;

/** Tokens that a simulated server computes in a ms, and what a launch takes, in ms. */
const TOKENS_PER_MS = 50;
const LAUNCH_MS = 4;

/** One infer call, from its start until its reply, its failure or its end. */
export interface SimulatedInference {
  readonly serverIndex: number;
  readonly texts: readonly number[][];
  readonly paddedLength: number;
  isOpen: boolean;
}

/** Triton servers in memory, on a virtual clock. */
export interface SimulatedNetwork {
  readonly urls: readonly string[];
  readonly moods: ServerMood[];
  /** Every inference of a batch, oldest first; probes are not among them. */
  readonly inferences: SimulatedInference[];
  /** What was wrong in what the servers received. */
  readonly problems: string[];
  readonly call: TritonCall;
  /** Called when the last byte of a batch's request has arrived. */
  onInference: (inference: SimulatedInference) => void;
  setMood(serverIndex: number, mood: ServerMood): void;
}

interface OpenCall {
  readonly serverIndex: number;
  inference?: SimulatedInference;
  fail(error: ServerError): void;
}

export function createSimulatedNetwork(
  clock: VirtualClock,
  options: { serverCount: number; batchTextsMax: number },
): SimulatedNetwork {
  const urls = Array.from({ length: options.serverCount }, (_, index) => `http://10.0.0.${index}`);
  const moods: ServerMood[] = urls.map(() => 'well');
  const open = new Set<OpenCall>();

  const call: TritonCall = (request) => {
    const serverIndex = urls.findIndex((url) => request.address.startsWith(`${url}/`));
    let settle: (error: ServerError | undefined, reply?: TritonReply) => void = () => undefined;
    const reply = new Promise<TritonReply>((resolve, reject) => {
      settle = (error, whole) => {
        cancelDeadline();
        open.delete(entry);
        if (entry.inference !== undefined) entry.inference.isOpen = false;
        if (whole !== undefined) resolve(whole);
        else reject(error);
      };
    });
    const entry: OpenCall = { serverIndex, fail: (error) => settle(error) };
    const cancelDeadline = clock.schedule(request.timeoutMs, () =>
      entry.fail(new ServerError('EMB_BACKEND_TIMEOUT', 'too late')),
    );
    open.add(entry);
    if (moods[serverIndex] === 'dead') {
      clock.schedule(0, () => entry.fail(unavailable('refused')));
    } else serve(request, entry, (whole) => settle(undefined, whole));
    return { reply, cancel: (reason) => entry.fail(reason) };
  };

  function serve(
    request: TritonRequest,
    entry: OpenCall,
    answer: (reply: TritonReply) => void,
  ): void {
    const { address } = request;
    const { serverIndex } = entry;
    if (address.endsWith('/infer')) infer(request, entry, answer);
    else {
      const body = address.endsWith('/config')
        ? { max_batch_size: options.batchTextsMax }
        : METADATA;
      clock.schedule(1, () => {
        if (moods[serverIndex] !== 'hung') answer(replyOf(200, JSON.stringify(body)));
      });
    }
  }

  function infer(
    request: TritonRequest,
    entry: OpenCall,
    answer: (reply: TritonReply) => void,
  ): void {
    const { serverIndex } = entry;
    const headers = new Map(
      Object.entries({ ...request.headers, 'accept-encoding': 'identity' }).map(
        ([name, value]) => [name.toLowerCase(), value] as const,
      ),
    );
    const body = Buffer.from(request.body ?? new Uint8Array());
    const read = readInferRequest(body, headers, { datatype: 'INT64', padId: 1 });
    network.problems.push(...read.problems);
    const paddedLength = read.shape[1] ?? 0;
    const inference = { serverIndex, texts: read.texts, paddedLength, isOpen: true };
    const isProbe = read.texts.length === 1 && read.texts[0]?.length === 2;
    if (!isProbe) {
      entry.inference = inference;
      network.inferences.push(inference);
      network.onInference(inference);
    }
    const slowness = moods[serverIndex] === 'slow' ? 10 : 1;
    const workMs = LAUNCH_MS + (read.texts.length * paddedLength) / TOKENS_PER_MS;
    clock.schedule(workMs * slowness, () => {
      const mood = moods[serverIndex] ?? 'dead';
      if (mood === 'half-open' && !request.isFreshConnection) return;
      if (read.texts.some((ids) => ids[1] === KILLER_ID)) moods[serverIndex] = 'crashed';
      const reply = replyTo(read.texts, moods[serverIndex] ?? mood);
      if (reply !== undefined) answer(reply);
    });
  }

  const network: SimulatedNetwork = {
    urls,
    moods,
    inferences: [],
    problems: [],
    call,
    onInference: () => undefined,
    setMood(serverIndex, mood) {
      moods[serverIndex] = mood;
      if (mood !== 'dead') return;
      for (const entry of open) {
        if (entry.serverIndex === serverIndex) entry.fail(unavailable('reset'));
      }
    },
  };
  return network;
}

/** Deadline of a call to a simulated server, in ms. */
const TIMEOUT_MS = 2000;

/** The Triton backend on all servers of a network. */
export function createSimulatedBackend(
  { urls, call }: SimulatedNetwork,
  options: { clock: Clock; probeMs: number; batchTextsMax: number; batchTokensMax: number },
): TritonBackend {
  return createTritonBackend({
    ...options,
    urls,
    call,
    modelName: MODEL,
    expected: { dimension: DIMENSION, padId: 1, heads: ['dense'], outputs: {} },
    timeoutMs: TIMEOUT_MS,
    batchesInFlight: SIMULATED_IN_FLIGHT,
    multiVectorTokensMax: options.batchTokensMax,
    log: createLog({ level: 'error', write: () => undefined }),
  });
}

const METADATA = {
  inputs: ['input_ids', 'attention_mask'].map((name) => ({ name, datatype: 'INT64' })),
  outputs: [{ name: 'dense_vecs', datatype: 'FP32', shape: [-1, DIMENSION] }],
};

/** The reply to an inference; undefined for none at all. */
function replyTo(texts: readonly number[][], mood: ServerMood): TritonReply | undefined {
  if (mood === 'hung' || mood === 'dead') return undefined;
  if (mood === 'crashed') return replyOf(500, '{"error":"stub process is not healthy"}');
  if (mood === 'busy') return replyOf(503, '{"error":"exceeds maximum queue size"}');
  if (texts.some((ids) => ids[1] === POISON_ID)) return replyOf(400, '{"error":"bad input"}');
  const reply = rightReply(texts, { name: 'dense_vecs', dimension: DIMENSION });
  const isProbe = texts.length === 1 && texts[0]?.length === 2;
  if (mood === 'other-model') spoil(reply.data, (value, at) => (at % 2 === 0 ? -value : value));
  if (mood === 'nan-rows' && !isProbe) reply.data.writeFloatLE(Number.NaN, 0);
  if (mood === 'short-rows' && !isProbe) spoil(reply.data, (value) => value / 2);
  if (mood === 'copied-rows' && texts.length > 1)
    reply.data.copy(reply.data, DIMENSION * 4, 0, DIMENSION * 4);
  if (mood === 'empty' && !isProbe) {
    Object.assign(reply, { data: Buffer.alloc(0), binaryDataSize: 0 });
  }
  const { body, headerLength } = writeReply(reply);
  return replyOf(200, body, String(headerLength));
}

function spoil(data: Buffer, change: (value: number, at: number) => number): void {
  for (let at = 0; at < data.length; at += 4) {
    data.writeFloatLE(change(data.readFloatLE(at), at / 4), at);
  }
}

function replyOf(
  status: number,
  body: string | Buffer,
  headerLength: string | null = null,
): TritonReply {
  const headers = { get: () => headerLength };
  return { status, headers, body: Uint8Array.from(Buffer.from(body)) };
}
