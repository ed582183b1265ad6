import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { EncodeRequest, EncodeResult, Parts } from '../encode/contract.ts';
import type { ReplyFormat } from '../reply/reply-content.ts';
import type { Head } from '../vectors/output.ts';
import type { Access } from './access.ts';
import type { ReplyBudget } from './reply-budget.ts';
import type { BodyLimits } from './request.ts';
import type { ScoringBudget } from './scoring-budget.ts';

/** The journey of texts, given the request that they came with. */
export type WatchedEncode = (asked: EncodeRequest, request: Request) => Promise<EncodeResult>;

/** How far the end of the server has come. */
export interface Ending {
  /** A signal came: `/ready` says 503 and connections end with their reply, but all is answered. */
  readonly isAnnounced: boolean;
  /** The time to finish is over. What fails from now on fails because the server ends. */
  readonly isCut: boolean;
}

/** What the routes of every API are built on. */
export interface ApiContext {
  readonly encode: WatchedEncode;
  readonly admission: Parts['admission'];
  readonly manifest: Parts['manifest'];
  readonly tokenizer: Parts['tokenizer'];
  /** Undefined for a tokenizer that cannot give pieces or decode ids. */
  readonly vocabulary: Parts['vocabulary'];
  /** What the running model can give. */
  readonly heads: () => readonly Head[];
  /** What computes, in the words of text-embeddings-inference. */
  readonly computeType: 'gpu+optimized' | 'cpu';
  readonly scoringBudget: ScoringBudget;
  readonly replyBudget: ReplyBudget;
  readonly limits: BodyLimits & {
    readonly requestTextsMax: number;
    readonly requestTimeoutMs: number;
    readonly replyBytesMax: number;
    readonly truncate: boolean;
    readonly serverTiming: boolean;
    readonly allowTokenIds: boolean;
    readonly allowUnknownFields: boolean;
    readonly strictModel: boolean;
  };
  readonly access: Access;
  readonly clock: Clock;
  readonly log: Log;
}

/** A request whose body was read. */
export interface Call {
  readonly request: Request;
  readonly requestId: string;
  readonly format: ReplyFormat;
  /** Where the body of its reply comes from. */
  readonly replyBudget: ReplyBudget;
  /** Its texts wait for those of all others. */
  readonly isBackground: boolean;
  readonly startMs: number;
  readonly readMs: number;
}
