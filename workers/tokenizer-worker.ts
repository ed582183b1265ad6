import { systemClock } from '../src/base/clock.ts';
import { describeError } from '../src/base/log.ts';
import type { WorkerStart } from '../src/base/worker-host.ts';
import {
  loadTokenizerEngine,
  type TokenizerEngine,
} from '../src/tokenizer/pool/tokenizer-engine.ts';
import type {
  TokenizerInit,
  TokenizerReady,
  TokenizerRequest,
  TokenizerResponse,
} from '../src/tokenizer/pool/tokenizer-protocol.ts';

declare const self: Worker;

/**
 * Texts of so many UTF-16 units leave up to twice as many bytes behind, which are given back once
 * nothing of their message is in use any more. The runtime would keep them until its next message.
 */
const LARGE_UNITS = 4_194_304;

/** A shell: it receives, calls the engine and answers. */
let engine: TokenizerEngine | undefined;

self.onmessage = async (event: MessageEvent<TokenizerInit | TokenizerRequest>) => {
  if (engine !== undefined) return answer(engine, event.data as TokenizerRequest);
  try {
    engine = await loadTokenizerEngine(event.data as TokenizerInit);
    report({ kind: 'ready', ready: engine.ready });
  } catch (error) {
    report({ kind: 'failed', reason: `The tokenizer cannot be loaded: ${describeError(error)}` });
  }
};

function report(first: WorkerStart<TokenizerReady>): void {
  self.postMessage(first);
}

function answer(tokenizer: TokenizerEngine, request: TokenizerRequest): void {
  let response: TokenizerResponse;
  const transfer: ArrayBuffer[] = [];
  try {
    response = { messageId: request.messageId, ...run(tokenizer, request, transfer) };
  } catch (error) {
    response = { messageId: request.messageId, reason: describeError(error) };
  }
  self.postMessage(response, transfer);
  const units = request.texts.reduce((sum, text) => sum + text.length, 0);
  if (units >= LARGE_UNITS) systemClock.afterTurn(() => Bun.gc(true));
}

function run(tokenizer: TokenizerEngine, request: TokenizerRequest, transfer: ArrayBuffer[]) {
  if (request.kind === 'explain') {
    if (tokenizer.explain === undefined) throw new Error('this tokenizer gives no offsets');
    const explained = tokenizer.explain(request.texts, request.options);
    if (explained.json !== undefined) transfer.push(explained.json.buffer);
    return { explained };
  }
  const encoded = tokenizer.encode(request.texts, request.options);
  transfer.push(encoded.tokenIds.buffer, encoded.keptCounts.buffer, encoded.fullCounts.buffer);
  return { encoded };
}
