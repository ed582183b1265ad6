import { type InferenceEngine, openEngine } from '../src/backend/local/inference-engine.ts';
import type {
  InferenceInit,
  InferenceMessage,
  InferenceReady,
  InferenceRequest,
  InferenceResponse,
} from '../src/backend/local/inference-protocol.ts';
import { describeError } from '../src/base/log.ts';
import type { WorkerStart } from '../src/base/worker-host.ts';

declare const self: Worker;

/** A shell: it receives, calls the engine and answers, one message after the other. */
let engine: InferenceEngine | undefined;
let previous: Promise<void> = Promise.resolve();

self.onmessage = (event: MessageEvent<InferenceInit | InferenceMessage>) => {
  previous = previous.then(() => handle(event.data));
};

async function handle(message: InferenceInit | InferenceMessage): Promise<void> {
  if (message === 'shutdown') {
    await engine?.release();
    process.exit(0);
  }
  if (engine !== undefined) return answer(engine, message as InferenceRequest);
  try {
    engine = await openEngine(message as InferenceInit);
    report({ kind: 'ready', ready: engine.ready });
  } catch (error) {
    report({ kind: 'failed', reason: `The model cannot be loaded: ${describeError(error)}` });
    return;
  }
  // Without it a lone text takes longer, and nothing else is amiss.
  await engine.widen().catch(() => undefined);
}

function report(first: WorkerStart<InferenceReady>): void {
  self.postMessage(first);
}

async function answer(model: InferenceEngine, request: InferenceRequest): Promise<void> {
  try {
    const outputs = await model.run(request);
    const response: InferenceResponse = { messageId: request.messageId, outputs };
    const arrays = Object.values(outputs);
    self.postMessage(
      response,
      arrays.map((array) => array.buffer),
    );
  } catch (error) {
    const response: InferenceResponse = {
      messageId: request.messageId,
      reason: describeError(error),
    };
    self.postMessage(response);
  }
}
