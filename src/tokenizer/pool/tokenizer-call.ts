import type { ServerError } from '../../base/errors.ts';
import type { TokenizedText } from './tokenized-text.ts';

/** The texts of one request on their way through the pool. */
export interface Call {
  readonly texts: readonly string[];
  readonly truncationSide: 'left' | 'right';
  readonly results: TokenizedText[];
  openCount: number;
  isSettled: boolean;
  resolve(results: TokenizedText[]): void;
  reject(reason: ServerError): void;
}

/** A text on its way through a worker. */
export interface Errand {
  readonly call: Call;
  readonly index: number;
  readonly text: string;
  /** How often a worker has died with it. */
  readonly deathCount: number;
}

/** Hands each call its texts; a call is settled by its last one. */
export function hand(errands: readonly Errand[], texts: readonly TokenizedText[]): void {
  for (let at = 0; at < errands.length; at++) {
    const { call, index } = errands[at];
    call.results[index] = texts[at];
    if (--call.openCount > 0 || call.isSettled) continue;
    call.isSettled = true;
    call.resolve(call.results);
  }
}

/** Fails a call, unless it is settled. */
export function fail(call: Call, reason: ServerError): void {
  if (call.isSettled) return;
  call.isSettled = true;
  call.reject(reason);
}
