import type { WorkerStart } from '../../base/worker-host.ts';
import type {
  TokenizerInit,
  TokenizerReady,
  TokenizerRequest,
  TokenizerResponse,
} from '../../tokenizer/pool/tokenizer-protocol.ts';
import type { EncodedTexts } from '../../tokenizer/xlmr/compiled-tokenizer.ts';

declare const self: Worker;

/** Texts that the scripted tokenizer does something else with than tokenize them. */
export const SCRIPTED = { kill: 'KILL', fail: 'FAIL', keep: 'KEEP', who: 'WHO' } as const;

/** Tells this worker from others. */
const IDENTITY = crypto.getRandomValues(new Int32Array(1))[0];

const NOTHING_SHOWN = { explained: { tokenCount: 0, json: undefined } };

/**
 * A tokenizer for tests of what holds tokenizers: the ids of a text are its characters between 0
 * and 2. A model named `broken` cannot be loaded.
 */
let isInitialized = false;

self.onmessage = (event: MessageEvent<TokenizerInit | TokenizerRequest>) => {
  if (!isInitialized) {
    isInitialized = true;
    begin(event.data as TokenizerInit);
    return;
  }
  const request = event.data as TokenizerRequest;
  const has = (word: string): boolean => request.texts.some((text) => text.includes(word));
  if (has(SCRIPTED.kill)) process.exit(9);
  if (has(SCRIPTED.keep)) return;
  const response: TokenizerResponse = has(SCRIPTED.fail)
    ? { messageId: request.messageId, reason: 'a scripted failure' }
    : {
        messageId: request.messageId,
        ...(request.kind === 'explain' ? NOTHING_SHOWN : { encoded: encode(request) }),
      };
  self.postMessage(response);
};

function begin(init: TokenizerInit): void {
  const isBroken = init.kind === 'transformers.js' && init.modelId === 'broken';
  const first: WorkerStart<TokenizerReady> = isBroken
    ? { kind: 'failed', reason: 'tokenizer.json is broken' }
    : { kind: 'ready', ready: { engine: init.kind } };
  self.postMessage(first);
}

/** The ids that a text gets: tests compute them the same way. */
export function scriptedIds(text: string): number[] {
  return [0, ...Array.from(text, (character) => character.codePointAt(0) ?? 0), 2];
}

function encode({
  texts,
  options: { tokenCountMax, truncationSide },
}: TokenizerRequest): EncodedTexts {
  const full = texts.map((text) =>
    text.includes(SCRIPTED.who) ? [0, IDENTITY, 2] : scriptedIds(text),
  );
  const kept = full.map((ids) =>
    truncationSide === 'left' ? ids.slice(-tokenCountMax) : ids.slice(0, tokenCountMax),
  );
  return {
    tokenIds: Int32Array.from(kept.flat()),
    keptCounts: Int32Array.from(kept, (ids) => ids.length),
    fullCounts: Int32Array.from(full, (ids) => ids.length),
  };
}
