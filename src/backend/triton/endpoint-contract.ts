import type { Clock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { BatchOutput, TokenBatch } from '../backend.ts';
import type { ModelIdentity } from './model-identity.ts';
import type { TritonCall } from './triton-call.ts';
import type { ExpectedModel, TritonModel } from './triton-metadata.ts';
import type { SelfCheck } from './triton-probe.ts';

/** One Triton server. */
export interface TritonEndpoint {
  readonly url: string;
  /** The model, once a real inference has worked; undefined while the endpoint is down. */
  readonly model: TritonModel | undefined;
  /** Why it is down; empty while it is up. */
  readonly reason: string;
  readonly batchesInFlight: number;
  /** Padded tokens of the batches in flight: what it still has to do. */
  readonly outstandingTokens: number;
  /** Batches that it should have in flight at most; one while it has just come back. */
  readonly capacity: number;
  /** Gets no new batches; those in flight finish. */
  readonly isDraining: boolean;
  /** Runs one batch, once. */
  infer(batch: TokenBatch, options: EndpointInferOptions): Promise<BatchOutput>;
  /** Asks again whether it serves the model; one question at a time. @returns whether it does. */
  verify(): Promise<boolean>;
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
  close(): void;
}

/** How an endpoint runs a batch. */
export interface EndpointInferOptions {
  /** A pooled connection may be half open; a fresh one tells of the server. */
  readonly isFreshConnection: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** What an endpoint is made of; of several, all but the address are shared. */
export interface EndpointOptions {
  readonly url: string;
  /** Value of the Host header where `url` is an address that a name stands for. */
  readonly host?: string | undefined;
  readonly modelName: string;
  readonly expected: ExpectedModel;
  readonly identity: ModelIdentity;
  /** What it must answer each time that it comes up; unless told, it is not asked. */
  readonly selfCheck?: SelfCheck | undefined;
  readonly timeoutMs: number;
  readonly probeMs: number;
  readonly batchesInFlightMax: number;
  readonly call: TritonCall;
  /** Called each time the endpoint has come up, gone down, or can take more or less. */
  readonly onChange: () => void;
  readonly clock: Clock;
  readonly log: Log;
}
