import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Encode, EncodeResult } from '../encode/contract.ts';
import type { ModelManifest } from '../model/manifest.ts';
import { type ByteWriter, writeJson } from '../reply/byte-writer.ts';
import { encodeReply } from '../reply/encode-reply.ts';
import { negotiateFormat, type ReplyFormat } from '../reply/reply-format.ts';
import type { CompiledTokenizer } from '../tokenizer/xlmr/compiled-tokenizer.ts';
import type { Head } from '../vectors/head.ts';
import type { CallerOf } from './access.ts';
import type { BodyIntake } from './body-intake.ts';
import type { DocumentFacts } from './document-parts.ts';
import { REQUEST_ID_HEADER } from './error-reply.ts';
import { type Fields, fieldsOf } from './field-checks.ts';
import type { TokenIdPolicy } from './input-texts.ts';
import type { ScoringRoom } from './native/scoring-room.ts';
import { readBody } from './read-body.ts';
import { SERVED_BY_HEADER } from './served-by.ts';
import { serverTiming } from './server-timing.ts';

/** What a foreign front door needs, OpenAI's or text-embeddings-inference's. */
export interface VectorDoor {
  readonly encode: Encode;
  readonly manifest: ModelManifest;
  /** Undefined for a tokenizer that cannot decode ids. */
  readonly vocabulary: CompiledTokenizer | undefined;
  /** Whether the model runs inside this process, on its CPU. */
  readonly isInProcess: boolean;
  /** What the running model can give. */
  readonly heads: () => readonly Head[];
  /** For the routes that score. */
  readonly scoringRoom: ScoringRoom;
  readonly limits: {
    readonly bodyBytesMax: number;
    readonly bodyIntake: BodyIntake;
    readonly requestTextsMax: number;
    readonly requestTimeoutMs: number;
    readonly replyBytesMax: number;
    readonly truncate: boolean;
    readonly serverTiming: boolean;
    readonly allowTokenIds: boolean;
    readonly strictModel: boolean;
  };
  readonly callerOf: CallerOf;
  /** For the route's document. */
  readonly facts: DocumentFacts;
  readonly clock: Clock;
  readonly log: Log;
}

/** A request whose body was read. */
export interface DoorCall {
  readonly request: Request;
  readonly requestId: string;
  readonly format: ReplyFormat;
  readonly fields: Fields;
  readonly startMs: number;
  readonly readMs: number;
}

/**
 * Reads a request: what it accepts, and its fields.
 *
 * @throws ServerError EMB_ACCEPT_UNSUPPORTED, EMB_FIELD_INVALID, or as `readBody`.
 */
export async function readCall(
  door: VectorDoor,
  request: Request,
  requestId: string,
): Promise<DoorCall> {
  const startMs = door.clock.now();
  const format = negotiateFormat(request.headers.get('accept'));
  const fields = fieldsOf(await readBody(request, door.limits));
  return { request, requestId, format, fields, startMs, readMs: door.clock.now() - startMs };
}

/** What the door does with token ids in place of a text. */
export function tokenIdPolicyOf(door: VectorDoor): TokenIdPolicy {
  return { isAllowed: door.limits.allowTokenIds, vocabulary: door.vocabulary };
}

/**
 * The tokens that the model has seen of all texts together, special tokens included and what was
 * cut off not.
 */
export function usedTokenCount(door: VectorDoor, result: EncodeResult): number {
  const { tokenCountMax } = door.manifest;
  return result.tokenCounts.reduce((sum, count) => sum + Math.min(count, tokenCountMax), 0);
}

/**
 * The reply: JSON as the door writes it, and any binary format as `/encode` gives it, so that those
 * have one shape on every route.
 *
 * @param answer.writeBody writes the whole JSON document.
 * @param answer.headers the door's own.
 */
export function vectorReply(
  door: VectorDoor,
  call: DoorCall,
  answer: {
    readonly result: EncodeResult;
    readonly format: ReplyFormat;
    readonly dimension: number;
    readonly writeBody: (writer: ByteWriter) => void;
    readonly headers?: Readonly<Record<string, string>>;
  },
): Response {
  const { manifest, clock, limits } = door;
  const { result, format, dimension } = answer;
  const encodedMs = clock.now();
  const reply =
    format.kind === 'json'
      ? { body: writeJson(answer.writeBody), contentType: 'application/json' }
      : encodeReply({ ...result, model: manifest.id, dimension, single: false }, format);
  const headers: Record<string, string> = {
    'content-type': reply.contentType,
    [REQUEST_ID_HEADER]: call.requestId,
    // Neither of the two foreign shapes has a place for it, and a cut is always told.
    'x-truncated-count': String(result.truncated.filter((isTruncated) => isTruncated).length),
    ...answer.headers,
    ...('headers' in reply ? reply.headers : {}),
  };
  if (result.standIn !== undefined) headers[SERVED_BY_HEADER] = result.standIn;
  if (limits.serverTiming) {
    const replyMs = clock.now() - encodedMs;
    headers['server-timing'] = serverTiming({ readMs: call.readMs, ...result.timings, replyMs });
  }
  return new Response(reply.body, { headers });
}
