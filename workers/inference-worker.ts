import {
  type InferenceEngine,
  loadInferenceEngine,
} from '../src/backend/embedded/inference-engine.ts';
import type {
  InferenceFacts,
  InferenceGreeting,
  InferenceJob,
  InferenceReply,
} from '../src/backend/embedded/inference-protocol.ts';
import { describeError } from '../src/base/log.ts';
import type { WorkerGreeting } from '../src/base/worker-host.ts';

declare const self: Worker;

/** A shell: it receives, calls the engine and answers. */
let engine: InferenceEngine | undefined;

self.onmessage = async (event: MessageEvent<InferenceGreeting | InferenceJob>) => {
  if (engine !== undefined) return answer(engine, event.data as InferenceJob);
  try {
    engine = await loadInferenceEngine(event.data as InferenceGreeting);
    greet({ kind: 'ready', facts: engine.facts });
  } catch (error) {
    greet({ kind: 'failed', reason: `The model cannot be loaded: ${describeError(error)}` });
  }
};

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
