import { APIEncoder, type APIEncoderOptions } from '../client/api-encoder.ts';
import {
  type ScriptedEncodeServer,
  type ScriptedRequest,
  scriptedError,
  scriptedReply,
  startScriptedEncodeServer,
} from './scripted-encode-server.ts';
import { until } from './until.ts';
import { VirtualClock } from './virtual-clock.ts';

/** What a scripted server does with a request. */
export type Answer = (request: ScriptedRequest) => Response | Promise<Response>;

/** The rows that the scripted server has for the request's texts. */
export const answerRows: Answer = ({ body }) => scriptedReply(body.query ?? []);

/** Nothing, for ever. */
export const answerNever: Answer = () => new Promise(() => undefined);

/** 503, with no word of when to come back. */
export const answerUnavailable: Answer = () =>
  scriptedError(503, { code: 'EMB_BACKEND_UNAVAILABLE', retryable: true });

/**
 * A virtual clock that also remembers every delay that was asked of it, so that a test can await
 * one.
 */
export class WatchedClock extends VirtualClock {
  /** In ms, oldest first. */
  readonly delaysMs: number[] = [];

  override schedule(delayMs: number, action: () => void): () => void {
    this.delaysMs.push(delayMs);
    return super.schedule(delayMs, action);
  }
}

/** A scripted server, and a client of it whose time stands still and whose jitter is nought. */
export interface ScriptedClient extends AsyncDisposable {
  readonly clock: WatchedClock;
  readonly server: ScriptedEncodeServer;
  readonly encoder: APIEncoder;
  /** Waits until the client has asked its clock for this delay so many times, then lets it pass. */
  pass(delayMs: number, times?: number): Promise<void>;
  /** Waits until the server has so many requests. */
  sees(requestCount: number): Promise<void>;
}

/** @param answers one after the other, the last one for ever. */
export function startScriptedClient(
  answers: readonly Answer[],
  options: APIEncoderOptions = {},
): ScriptedClient {
  const clock = new WatchedClock();
  const server = startScriptedEncodeServer((request) =>
    answers[Math.min(request.index, answers.length - 1)](request),
  );
  const encoder = new APIEncoder(server.url, { clock, random: () => 0, ...options });
  return {
    clock,
    server,
    encoder,
    async pass(delayMs, times = 1) {
      const isAsked = (): boolean => clock.delaysMs.filter((ms) => ms === delayMs).length >= times;
      await until(`a wait of ${delayMs} ms was asked for`, isAsked);
      await clock.advance(delayMs);
    },
    sees: (requestCount) =>
      until(`there are ${requestCount} requests`, () => server.requests.length >= requestCount),
    async [Symbol.asyncDispose]() {
      await encoder.close();
      await server.close();
    },
  };
}
