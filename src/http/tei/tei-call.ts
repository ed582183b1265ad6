import type { EncodeRequest, EncodeResult } from '../../encode/contract.ts';
import { type Fields, optionalBoolean, optionalWord } from '../field-checks.ts';
import { valueCountMaxOf } from '../reply-bounds.ts';
import { timeoutOf } from '../request-timeout.ts';
import { type DoorCall, usedTokenCount, type VectorDoor } from '../vector-door.ts';

/** What the routes of text-embeddings-inference have in common. */

/** The prefixes of a model by the names that sentence-transformers gives them. */
const PROMPTS = ['query', 'passage', 'document'] as const;

/**
 * Which prefix stands in front: the query's unless `prompt_name` says otherwise, as on `/encode`.
 */
export function promptOf(fields: Fields): 'query' | 'passage' {
  const name = optionalWord(fields, 'prompt_name', PROMPTS) ?? 'query';
  return name === 'query' ? 'query' : 'passage';
}

/** `truncate` and `truncation_direction` of a request, or of its `parameters`. */
export function truncationOf(
  door: VectorDoor,
  fields: Fields,
): Pick<EncodeRequest, 'truncate' | 'truncationSide'> {
  const words = ['Left', 'Right', 'left', 'right'] as const;
  const direction = optionalWord(fields, 'truncation_direction', words);
  return {
    truncate: optionalBoolean(fields, 'truncate') ?? door.limits.truncate,
    truncationSide: direction === 'Left' || direction === 'left' ? 'left' : 'right',
  };
}

/** Runs texts through the journey, with what every route of this door asks alike. */
export function encodeTexts(
  door: VectorDoor,
  call: DoorCall,
  work: Pick<EncodeRequest, 'texts' | 'heads' | 'truncate' | 'inputType' | 'fieldOf'> & {
    readonly truncationSide?: 'left' | 'right' | undefined;
  },
): Promise<EncodeResult> {
  const { truncationSide = 'right', ...rest } = work;
  return door.encode({
    ...rest,
    truncationSide,
    batchTextsMax: undefined,
    valueCountMax: valueCountMaxOf(door.limits.replyBytesMax, call.format),
    timeoutMs: timeoutOf(call.request),
    signal: call.request.signal,
    caller: door.callerOf(call.request),
  });
}

/**
 * The headers in which text-embeddings-inference tells what a request cost: whole ms, tokens and
 * characters.
 */
export function computeHeaders(
  door: VectorDoor,
  call: DoorCall,
  work: { readonly texts: readonly string[]; readonly result: EncodeResult },
): Record<string, string> {
  const { clock } = door;
  const { timings } = work.result;
  const totalMs = Math.round(clock.now() - call.startMs);
  const characters = work.texts.reduce((sum, text) => sum + characterCount(text), 0);
  return {
    'x-compute-type': door.isInProcess ? 'cpu' : 'gpu+optimized',
    'x-compute-time': String(totalMs),
    'x-compute-characters': String(characters),
    'x-compute-tokens': String(usedTokenCount(door, work.result)),
    'x-total-time': String(totalMs),
    'x-tokenization-time': String(Math.round(timings.tokenizeMs)),
    'x-queue-time': String(Math.round(timings.queueMs)),
    'x-inference-time': String(Math.round(timings.inferMs)),
  };
}

/** Code points, as the original counts them. */
function characterCount(text: string): number {
  const pairs = text.match(/[\ud800-\udbff]/g);
  return text.length - (pairs?.length ?? 0);
}
