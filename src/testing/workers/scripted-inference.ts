import type {
  InferenceMessage,
  InferenceReady,
  InferenceResponse,
} from '../../backend/local/inference-protocol.ts';
import type { WorkerStart } from '../../base/worker-host.ts';

declare const self: Worker;

/** An inference worker for tests of what holds them: it ends at a text with this id. */
export const KILLER_ID = 666;

let isInitialized = false;

self.onmessage = ({ data }: MessageEvent<InferenceMessage>) => {
  if (!isInitialized) {
    isInitialized = true;
    const ready: WorkerStart<InferenceReady> = { kind: 'ready', ready: { outputNames: [] } };
    self.postMessage(ready);
    return;
  }
  if (data === 'shutdown' || data.tokenIds.includes(KILLER_ID)) process.exit(0);
  const dense = new Float32Array(data.tokenCounts.length).fill(1);
  const response: InferenceResponse = { messageId: data.messageId, outputs: { dense } };
  self.postMessage(response);
};
