import { APIEncoderError } from './api-encoder-error.ts';

/**
 * The error in the caller's words: the server counts texts within the request, the caller counts
 * those that it gave.
 *
 * @param place.field what the server calls the texts: `query` on `/encode`.
 * @param place.start place of the request's first text among all.
 * @param place.isSingle the caller gave one text and not an array, and knows it as `text`.
 */
export function inCallersWords(
  error: unknown,
  place: { readonly field: string; readonly start: number; readonly isSingle: boolean },
): unknown {
  if (!(error instanceof APIEncoderError) || error.field === undefined) return error;
  const told = error.field;
  if (told !== place.field && !told.startsWith(`${place.field}[`)) return error;
  const index = /\[(\d+)\]$/.exec(told)?.[1];
  const inArray = index === undefined ? 'texts' : `texts[${place.start + Number(index)}]`;
  const field = place.isSingle ? 'text' : inArray;
  const message = error.message.replace(told, field);
  return new APIEncoderError(error.code, message, { ...error, field, cause: error });
}
