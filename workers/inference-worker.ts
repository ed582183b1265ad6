import type { InferenceEngine } from '../src/backend/local/inference-engine.ts';
import type {
  InferenceFacts,
  InferenceGreeting,
  InferenceJob,
  InferenceMessage,
  InferenceReply,
} from '../src/backend/local/inference-protocol.ts';
import { openEngine } from '../src/backend/local/open-engine.ts';
import { describeError } from '../src/base/log.ts';
import type { WorkerGreeting } from '../src/base/worker-host.ts';

declare const self: Worker;

/** A shell: it receives, calls the engine and answers, one message after the other. */
let engine: InferenceEngine | undefined;
let previous: Promise<void> = Promise.resolve();

self.onmessage = (event: MessageEvent<InferenceGreeting | InferenceMessage>) => {
  previous = previous.then(() => handle(event.data));
};

async function handle(message: InferenceGreeting | InferenceMessage): Promise<void> {
  if (message === 'end') {
    await engine?.release();
    process.exit(0);
  }
  if (engine !== undefined) return answer(engine, message as InferenceJob);
  try {
    engine = await openEngine(message as InferenceGreeting);
    greet({ kind: 'ready', facts: engine.facts });
  } catch (error) {
    greet({ kind: 'failed', reason: `The model cannot be loaded: ${describeError(error)}` });
    return;
  }
  // Without it a lone text takes longer, and nothing else is amiss.
  await engine.widen().catch(() => undefined);
}

function greet(greeting: WorkerGreeting<InferenceFacts>): void {
  self.postMessage(greeting);
}

async function answer(model: InferenceEngine, job: InferenceJob): Promise<void> {
  try {
    const outputs = await model.run(job);
    const reply: InferenceReply = { jobId: job.jobId, outputs };
    const arrays = Object.values(outputs);
    self.postMessage(
      reply,
      arrays.map((array) => array.buffer),
    );
  } catch (error) {
    const reply: InferenceReply = { jobId: job.jobId, reason: describeError(error) };
    self.postMessage(reply);
  }
}
