import type { ReplyKind } from './rows-of-reply.ts';

/** Every message between a bench and the process that makes the load. */

/** One HTTP request, ready for the socket, and the reply that it must get. */
export interface PlannedRequest {
  /** Head and body. */
  readonly bytes: Uint8Array;
  /**
   * Body of the right reply; its rows have been checked against ones computed apart from the
   * server.
   */
  readonly replyBody: Uint8Array;
  /** Under which name its latency is counted. */
  readonly kind: string;
  readonly textCount: number;
  /** Tokens of all its texts, special tokens included, as the reference tokenizer counts. */
  readonly tokenCount: number;
}

/**
 * How requests come. `closed`: so many connections, each of which waits for its reply before it
 * sends again. `fixed` and `poisson`: at a rate, whatever the server does; each is late from the
 * moment it was due.
 */
export type Arrival =
  | { readonly kind: 'closed'; readonly connectionCount: number }
  | { readonly kind: 'fixed' | 'poisson'; readonly requestsPerSecond: number };

/** What the load process is told. */
export interface LoadPlan {
  readonly hostname: string;
  readonly port: number;
  readonly requests: readonly PlannedRequest[];
  readonly replyKind: ReplyKind;
  /** Largest difference of a component; 0 wants the same bytes. */
  readonly tolerance: number;
  readonly arrival: Arrival;
  /** Load before anything is counted. */
  readonly warmUpMs: number;
  readonly measureMs: number;
  /** Ends the measuring early, after so many replies. */
  readonly requestCountMax: number;
  /** Connections of an open load; what finds none waits, and its wait counts. */
  readonly connectionCountMax: number;
  readonly timeoutMs: number;
  /** Order of the requests, and the gaps of a Poisson arrival. */
  readonly seed: number;
  /** Processes whose processor time is read when measuring starts and ends. */
  readonly watchedPids: Readonly<Record<string, readonly number[]>>;
  /** The process whose threads are told apart. */
  readonly threadsOfPid: number | undefined;
}

/** Latencies of one kind of request, or times of one stage, in ms. */
export interface Latencies {
  readonly count: number;
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

/** What the load process found. Counts are of replies inside the measured window. */
export interface LoadResult {
  readonly measuredMs: number;
  readonly requestCount: number;
  readonly textCount: number;
  readonly tokenCount: number;
  /** From when a request was due until its last byte; by kind, and `all`. */
  readonly latencies: Readonly<Record<string, Latencies>>;
  /** What the server says of its stages in Server-Timing; empty where it says nothing. */
  readonly stages: Readonly<Record<string, Latencies>>;
  /** How late requests of an open load left this process; part of their latency. */
  readonly sendLag: Latencies | null;
  /** Replies that carried another row than they should, or could not be read. */
  readonly wrong: Trouble;
  /** Replies with another status than 200, and connections that broke. */
  readonly failed: Trouble;
  /**
   * Processor time while it measured, in ms: of the watched processes by their name, and of this
   * one as `load`.
   */
  readonly cpuMs: Readonly<Record<string, number>>;
  /** Of that, the server's threads by name; empty where they are not watched. */
  readonly threadCpuMs: Readonly<Record<string, number>>;
}

/** How often, and the first few in words. */
export interface Trouble {
  readonly count: number;
  readonly samples: readonly string[];
}

/** What the load process says while it works, and at the end. */
export type LoadMessage =
  | { readonly progress: { readonly elapsedMs: number; readonly replyCount: number } }
  | { readonly result: LoadResult }
  | { readonly failure: string };
