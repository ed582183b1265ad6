import type { Clock } from '../../base/clock.ts';
import { describeError, type Log } from '../../base/log.ts';
import type { SelfCheck } from '../../model/engine-record.ts';
import type { BackendEndpoint, BatchOutput, TokenBatch } from '../contract.ts';
import { BatchCost, type CostShape, EndpointHealth } from './endpoint-history.ts';
import { createLiveness } from './liveness.ts';
import {
  createSharedMemory,
  type SharedMemory,
  type SharedMemoryOptions,
} from './shared-memory.ts';
import {
  createBatchTransport,
  type OpenCall,
  type SendOptions,
  type TritonCall,
  type TritonReply,
  type TritonRequest,
  unavailable,
} from './triton-call.ts';
import {
  type ExpectedModel,
  type ModelIdentity,
  probeModel,
  type TritonModel,
} from './triton-model.ts';

/** One Triton server: what operators see of it, and what its batches need. */
export interface TritonEndpoint extends BackendEndpoint {
  /** The model, once a real inference has worked; undefined while the endpoint is down. */
  readonly model: TritonModel | undefined;
  /** Padded tokens of the batches in flight: what it still has to do. */
  readonly outstandingTokens: number;
  /** What batches cost there, as far as they have told. */
  readonly cost: CostShape;
  /** Batches that it should have in flight at most; one while it has just come back. */
  readonly capacity: number;
  /** It has left unanswered whether it lives: it gets no further callers until it has spoken. */
  readonly isSilent: boolean;
  /** What became of its late batches: who sends them again counts. */
  readonly secondTries: { sentCount: number; wonCount: number };
  /** When it last answered a batch or a probe. */
  readonly answeredMs: number;
  /** Runs one batch, once. */
  infer(batch: TokenBatch, options: SendOptions): Promise<BatchOutput>;
  /** Asks again whether it serves the model; one question at a time. @returns whether it does. */
  verify(): Promise<boolean>;
  /** A batch is late there. It is asked whether it serves the model: at once the first time. */
  noteLate(): void;
  /** A batch is late there that no other can take. It is asked at once whether it lives. */
  suspectSilence(): void;
  /**
   * Takes it down until a probe has worked, which is tried at once. Batches in flight fail over.
   */
  suspect(why: string): void;
  /** A batch was refused or answered wrongly. @returns whether that was once too often in a row. */
  noteFailure(): boolean;
  /** Sets it aside for a while although it answers probes. */
  eject(why: string): void;
  /** Gives it no new batch until `resume`. Resolves when none is in flight. */
  drain(): Promise<void>;
  resume(): void;
  /** Resolves when its regions of shared memory are gone. */
  close(): Promise<void>;
}

/** What an endpoint is made of; of several, all but the address are shared. */
export interface EndpointOptions {
  readonly url: string;
  /** Value of the Host header where `url` is an address that a name stands for. */
  readonly host?: string | undefined;
  /** Value of the Authorization header. */
  readonly authorization?: string | undefined;
  readonly modelName: string;
  readonly expected: ExpectedModel;
  readonly identity: ModelIdentity;
  /** What it must answer each time that it comes up; unless told, it is not asked. */
  readonly selfCheck?: SelfCheck | undefined;
  readonly timeoutMs: number;
  readonly probeMs: number;
  readonly batchesInFlightMax: number;
  readonly call: TritonCall;
  /** Unless told, batches travel over HTTP. */
  readonly sharedMemory?: SharedMemoryOptions | undefined;
  /** Called each time it has come up, before it gets a batch. */
  readonly onUp?: () => void;
  /** Called each time the endpoint has come up, gone down, or can take more or less. */
  readonly onChange: () => void;
  /** Called each time that a batch has told what batches cost. */
  readonly onCost: () => void;
  readonly clock: Clock;
  readonly log: Log;
}

/** Starts to look after one server: it is probed at once, in the background. */
export function createTritonEndpoint(options: EndpointOptions): TritonEndpoint {
  const { url, modelName, timeoutMs, probeMs, onChange, clock, log } = options;
  const modelUrl = `${url}/v2/models/${encodeURIComponent(modelName)}`;
  const ownHeaders: Record<string, string> = {
    ...(options.host ? { Host: options.host } : {}),
    ...(options.authorization ? { Authorization: options.authorization } : {}),
  };
  const health = new EndpointHealth();
  const cost = new BatchCost();
  let returnedMs = Number.NEGATIVE_INFINITY;
  const shared = sharedMemoryOf(options, modelUrl, callHere);
  const transport = createBatchTransport({
    ...{ url, modelUrl, ownHeaders, timeoutMs, takeSlot: shared?.take, call: options.call },
    onAnswer() {
      answeredMs = clock.now();
      liveness.clear();
      if (isLate) hasSpoken();
    },
    onForgotten() {
      // It was never missed, and its model may be another.
      wasRestarted = true;
      shared?.disconnect();
      return verify();
    },
  });
  const liveness = createLiveness({ url, probeMs, timeoutMs, call: callHere, clock, onChange });
  const openProbes = new Set<OpenCall>();
  let model: TritonModel | undefined;
  let reason = `Triton at ${url} was not asked yet.`;
  let batchesInFlight = 0;
  let outstandingTokens = 0;
  let isDraining = false;
  let isLate = false;
  let lateUntilMs = 0;
  let cancelLate: () => void = () => undefined;
  const whenDrained: (() => void)[] = [];
  let cancelProbe: () => void = () => undefined;
  let verifying: Promise<boolean> | undefined;
  let answeredMs = 0;
  let wasRestarted = false;
  let isClosed = false;

  function verify(): Promise<boolean> {
    if (isClosed) return Promise.resolve(false);
    verifying ??= probe().finally(() => {
      verifying = undefined;
    });
    return verifying;
  }

  async function probe(): Promise<boolean> {
    cancelProbe();
    try {
      const { expected, identity, selfCheck } = options;
      const known = { knownEngine: model?.engine, call: callHere, timeoutMs };
      const found = await probeModel({ modelUrl, expected, identity, selfCheck, ...known });
      if (isClosed) return false;
      // Another engine may have taken the place of one that was never missed.
      const hasComeUp = wasRestarted || model?.engine !== found.engine || model === undefined;
      wasRestarted = false;
      if (hasComeUp) await shared?.connect(found);
      if (isClosed) return false;
      answeredMs = clock.now();
      if (hasComeUp) {
        options.onUp?.();
        log.info('triton-up', { url, model: modelName, inputs: found.signature.inputDatatype });
      }
      model = found;
      reason = '';
      liveness.clear();
      hasSpoken();
      watch();
      return true;
    } catch (error) {
      goDown(`Triton at ${url} cannot serve ${modelName}: ${describeError(error)}`);
      return false;
    }
  }

  /**
   * Looks after an endpoint that is up once no batch has told of it for a while: nothing else would
   * notice its end. A busy one would answer a whole probe behind its batches, so it is only asked
   * whether it lives.
   */
  function watch(): void {
    cancelProbe();
    const quietMs = clock.now() - Math.max(answeredMs, liveness.settledMs);
    cancelProbe = clock.schedule(Math.max(probeMs - quietMs, 1), () => {
      if (clock.now() - answeredMs < probeMs) watch();
      else if (batchesInFlight > 0 || isLate) void askLife();
      else void verify();
    });
  }

  async function askLife(): Promise<void> {
    cancelProbe();
    const isAlive = await liveness.ask();
    if (model === undefined || isClosed) return;
    if (isAlive) watch();
    else goDown(`Triton at ${url} does not answer any more.`);
  }

  function noteLate(): void {
    if (isLate || model === undefined) return;
    log.debug('triton-late', { url });
    isLate = true;
    const lateMs = health.wasLate();
    lateUntilMs = clock.now() + lateMs;
    onChange();
    cancelLate = clock.schedule(lateMs, () => {
      void verify();
      // One that is stopped leaves that question unanswered for long: the watch goes on beside it.
      watch();
    });
  }

  function suspectSilence(): void {
    // What it has said a moment ago still holds: it is slow.
    if (model !== undefined && !liveness.isFresh) void askLife();
  }

  /** It has answered a batch or a probe: if it was late, it no longer is. */
  function hasSpoken(): void {
    if (clock.now() >= lateUntilMs) isLate = false;
    onChange();
  }

  function goDown(why: string, backAfterMs = probeMs): void {
    if (isClosed) return;
    if (why !== reason) log.warn('triton-down', { url, reason: why });
    if (model !== undefined) health.wentDown();
    model = undefined;
    reason = why;
    shared?.disconnect();
    isLate = false;
    liveness.clear();
    onChange();
    cancelLate();
    cancelProbe();
    cancelProbe = clock.schedule(backAfterMs, () => void verify());
    transport.giveUp(unavailable(why));
  }

  const infer: TritonEndpoint['infer'] = async (batch, { isFreshConnection, signal }) => {
    if (model === undefined) throw unavailable(reason);
    const tokens = batch.texts.length * batch.paddedLength;
    batchesInFlight++;
    outstandingTokens += tokens;
    const sentMs = clock.now();
    try {
      const output = await transport.send(batch, model.signature, { isFreshConnection, signal });
      // Behind another batch, it was computed from that one's return on.
      const startMs = Math.max(sentMs, returnedMs);
      returnedMs = clock.now();
      const { paddedLength } = batch;
      cost.learn({ textCount: batch.texts.length, paddedLength, ms: returnedMs - startMs });
      options.onCost();
      if (health.succeeded()) onChange();
      return output;
    } finally {
      batchesInFlight--;
      outstandingTokens -= tokens;
      if (batchesInFlight === 0) for (const resolve of whenDrained.splice(0)) resolve();
    }
  };

  /** A question of our own. It outlives the endpoint's being down, and not its close. */
  async function callHere(request: TritonRequest): Promise<TritonReply> {
    const open = options.call({ ...request, headers: { ...request.headers, ...ownHeaders } });
    openProbes.add(open);
    return await open.reply.finally(() => openProbes.delete(open));
  }

  void verify();
  return {
    url,
    get model() {
      return model;
    },
    get reason() {
      return reason;
    },
    get cost() {
      return cost.shape;
    },
    get batchesInFlight() {
      return batchesInFlight;
    },
    get outstandingTokens() {
      return outstandingTokens;
    },
    get capacity() {
      return health.isSlowStarting ? 1 : options.batchesInFlightMax;
    },
    get isDraining() {
      return isDraining;
    },
    get isLate() {
      return isLate;
    },
    get isSilent() {
      return liveness.isSilent;
    },
    secondTries: { sentCount: 0, wonCount: 0 },
    get answeredMs() {
      return answeredMs;
    },
    get overHttp() {
      return shared === undefined ? 'TRITON_SHARED_MEMORY is off.' : shared.reason;
    },
    infer,
    verify,
    noteLate,
    suspectSilence,
    suspect(why) {
      if (model === undefined) return;
      goDown(why);
      void verify();
    },
    noteFailure: () => health.failed(),
    eject: (why) => goDown(why, health.nextEjectionMs()),
    drain() {
      isDraining = true;
      onChange();
      if (batchesInFlight === 0) return Promise.resolve();
      return new Promise((resolve) => whenDrained.push(resolve));
    },
    resume() {
      isDraining = false;
      onChange();
    },
    async close() {
      isClosed = true;
      model = undefined;
      reason = 'The server is shutting down.';
      onChange();
      cancelProbe();
      cancelLate();
      transport.giveUp(unavailable(reason));
      for (const open of openProbes) open.cancel(unavailable(reason));
      await shared?.close();
    },
  };
}

function sharedMemoryOf(
  { sharedMemory, url, timeoutMs, batchesInFlightMax, log }: EndpointOptions,
  modelUrl: string,
  call: (request: TritonRequest) => Promise<TritonReply>,
): SharedMemory | undefined {
  if (sharedMemory === undefined) return undefined;
  // One more than are in flight: a slot that was given up is replaced beside the batches.
  const slotCount = batchesInFlightMax + 1;
  return createSharedMemory({ ...sharedMemory, url, modelUrl, timeoutMs, slotCount, call, log });
}
