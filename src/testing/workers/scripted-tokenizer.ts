import type { WorkerGreeting } from '../../base/worker-host.ts';
import type {
  EncodedTexts,
  TokenizerFacts,
  TokenizerGreeting,
  TokenizerJob,
  TokenizerReply,
} from '../../tokenizer/pool/tokenizer-protocol.ts';

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
let isGreeted = false;

self.onmessage = (event: MessageEvent<TokenizerGreeting | TokenizerJob>) => {
  if (!isGreeted) {
    isGreeted = true;
    begin(event.data as TokenizerGreeting);
    return;
  }
  const job = event.data as TokenizerJob;
  const has = (word: string): boolean => job.texts.some((text) => text.includes(word));
  if (has(SCRIPTED.kill)) process.exit(9);
  if (has(SCRIPTED.keep)) return;
  const reply: TokenizerReply = has(SCRIPTED.fail)
    ? { jobId: job.jobId, reason: 'a scripted failure' }
    : { jobId: job.jobId, ...(job.kind === 'explain' ? NOTHING_SHOWN : { encoded: encode(job) }) };
  self.postMessage(reply);
};

function begin(greeting: TokenizerGreeting): void {
  const isBroken = greeting.kind === 'transformers.js' && greeting.modelId === 'broken';
  const first: WorkerGreeting<TokenizerFacts> = isBroken
    ? { kind: 'failed', reason: 'tokenizer.json is broken' }
    : { kind: 'ready', facts: { engine: greeting.kind } };
  self.postMessage(first);
}

/** The ids that a text gets: tests compute them the same way. */
export function scriptedIds(text: string): number[] {
  return [0, ...Array.from(text, (character) => character.codePointAt(0) ?? 0), 2];
}

function encode({ texts, options: { tokenCountMax, truncationSide } }: TokenizerJob): EncodedTexts {
  const full = texts.map((text) =>
    text.includes(SCRIPTED.who) ? [0, IDENTITY, 2] : scriptedIds(text),
  );
  const kept = full.map((ids) =>
    truncationSide === 'left' ? ids.slice(-tokenCountMax) : ids.slice(0, tokenCountMax),
  );
  return {
    ids: Int32Array.from(kept.flat()),
    keptCounts: Int32Array.from(kept, (ids) => ids.length),
    fullCounts: Int32Array.from(full, (ids) => ids.length),
  };
}
