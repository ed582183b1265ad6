import type { EncodeResult } from '../../encode/contract.ts';
import type { ApiContext, Call } from '../context.ts';
import { BOOLEAN, type Field, oneOf, optional, withDefault } from '../fields.ts';
import { toldHeaders, usedTokenCount } from '../response.ts';

/** What the routes of text-embeddings-inference have in common: fields and headers. */

/** Fields that say how over-long texts are cut. */
export function truncationFields({ limits }: ApiContext) {
  const direction = withDefault(oneOf(['Left', 'Right', 'left', 'right']), 'Right');
  return { truncate: withDefault(BOOLEAN, limits.truncate), truncation_direction: direction };
}

/** What the truncation fields ask of the journey. */
export function truncationOf(fields: {
  readonly truncate: boolean;
  readonly truncation_direction: 'Left' | 'Right' | 'left' | 'right';
}): { readonly truncate: boolean; readonly truncationSide: 'left' | 'right' } {
  return { truncate: fields.truncate, truncationSide: truncationSideOf(fields) };
}

/** The side that is cut. */
export function truncationSideOf(fields: {
  readonly truncation_direction: 'Left' | 'Right' | 'left' | 'right';
}): 'left' | 'right' {
  return fields.truncation_direction.toLowerCase() === 'left' ? 'left' : 'right';
}

const PROMPT = optional(
  // The names that sentence-transformers gives to prefixes.
  oneOf(['query', 'passage', 'document']),
  'Which prefix of the model stands in front; that of a query unless told.',
);

/** The field that chooses the model's prefix. */
export const PROMPT_NAME: Field<'query' | 'passage' | undefined> = {
  ...PROMPT,
  read(value, at) {
    const name = PROMPT.read(value, at);
    return name === 'document' ? 'passage' : name;
  },
};

/**
 * The headers in which text-embeddings-inference tells what a request cost: whole ms, tokens and
 * characters; and ours for what became of its texts.
 */
export function computeHeaders(
  { clock, computeType, manifest }: ApiContext,
  call: Call,
  work: { readonly texts: readonly string[]; readonly result: EncodeResult },
): Record<string, string> {
  const { timings, tokenCounts } = work.result;
  const totalMs = Math.round(clock.now() - call.startMs);
  const characters = work.texts.reduce((sum, text) => sum + characterCount(text), 0);
  return {
    'x-compute-type': computeType,
    'x-compute-time': String(totalMs),
    'x-compute-characters': String(characters),
    'x-compute-tokens': String(usedTokenCount(tokenCounts, manifest.tokenCountMax)),
    'x-total-time': String(totalMs),
    'x-tokenization-time': String(Math.round(timings.tokenizeMs)),
    'x-queue-time': String(Math.round(timings.queueMs)),
    'x-inference-time': String(Math.round(timings.inferMs)),
    ...toldHeaders(work.result),
  };
}

/** Code points, as the original counts them. */
function characterCount(text: string): number {
  const pairs = text.match(/[\ud800-\udbff]/g);
  return text.length - (pairs?.length ?? 0);
}
