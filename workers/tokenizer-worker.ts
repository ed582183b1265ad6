import { describeError } from '../src/base/log.ts';
import type { WorkerGreeting } from '../src/base/worker-host.ts';
import {
  loadTokenizerEngine,
  type TokenizerEngine,
} from '../src/tokenizer/pool/tokenizer-engine.ts';
import type {
  TokenizerFacts,
  TokenizerGreeting,
  TokenizerJob,
  TokenizerReply,
} from '../src/tokenizer/pool/tokenizer-protocol.ts';

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
    reply = { jobId: job.jobId, ...run(tokenizer, job, transfer) };
  } catch (error) {
    reply = { jobId: job.jobId, reason: describeError(error) };
  }
  self.postMessage(reply, transfer);
}

function run(tokenizer: TokenizerEngine, job: TokenizerJob, transfer: ArrayBuffer[]) {
  if (job.kind === 'explain') {
    if (tokenizer.explain === undefined) throw new Error('this tokenizer gives no offsets');
    const explained = tokenizer.explain(job.texts, job.options);
    if (explained.json !== undefined) transfer.push(explained.json.buffer);
    return { explained };
  }
  const encoded = tokenizer.encode(job.texts, job.options);
  transfer.push(encoded.ids.buffer, encoded.keptCounts.buffer, encoded.fullCounts.buffer);
  return { encoded };
}
