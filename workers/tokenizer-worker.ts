import { describeError } from '../src/base/log.ts';
import type { WorkerGreeting } from '../src/base/worker-host.ts';
import { loadTokenizerEngine, type TokenizerEngine } from '../src/tokenizer/tokenizer-engine.ts';
import type {
  TokenizerFacts,
  TokenizerGreeting,
  TokenizerJob,
  TokenizerReply,
} from '../src/tokenizer/tokenizer-protocol.ts';

declare const self: Worker;

/** A shell: it receives, calls the engine and answers. */
let engine: TokenizerEngine | undefined;

self.onmessage = async (event: MessageEvent<TokenizerGreeting | TokenizerJob>) => {
  if (engine !== undefined) return answer(engine, event.data as TokenizerJob);
  try {
    engine = await loadTokenizerEngine(event.data as TokenizerGreeting);
    greet({ kind: 'ready', facts: engine.facts });
  } catch (error) {
    greet({ kind: 'failed', reason: `The tokenizer cannot be loaded: ${describeError(error)}` });
  }
};

function greet(greeting: WorkerGreeting<TokenizerFacts>): void {
  self.postMessage(greeting);
}

function answer(tokenizer: TokenizerEngine, job: TokenizerJob): void {
  let reply: TokenizerReply;
  const transfer: ArrayBuffer[] = [];
  try {
    const encoded = tokenizer.encode(job.texts, job);
    transfer.push(encoded.ids.buffer, encoded.keptCounts.buffer, encoded.fullCounts.buffer);
    reply = { jobId: job.jobId, encoded };
  } catch (error) {
    reply = { jobId: job.jobId, reason: describeError(error) };
  }
  self.postMessage(reply, transfer);
}
