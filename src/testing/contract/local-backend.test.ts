import { setDefaultTimeout } from 'bun:test';
import { join } from 'node:path';
import { createLocalBackend } from '../../backend/local/local-backend.ts';
import { planTextMemory } from '../../backend/local/memory-budget.ts';
import { systemClock } from '../../base/clock.ts';
import { createLog } from '../../base/log.ts';
import { loadManifest } from '../../model/manifest.ts';
import { describeBackendContract } from './backend-contract.ts';

// A worker loads 68 MB of model, on a machine that may do other things at once.
setDefaultTimeout(60_000);

const MODELS = join(import.meta.dir, '../../../models');
const manifest = await loadManifest({ modelsDir: MODELS, name: 'multilingual-e5-small' });

for (const file of ['onnx/model.onnx', 'onnx/model-int8.onnx']) {
  describeBackendContract({
    name: `embedded, multilingual-e5-small, ${file}`,
    dimension: manifest.dimension,
    tokenCountMax: manifest.tokenCountMax,
    // Matrix products are summed in another order for another shape. Each worker computes on one
    // thread: the same text has the same bits, whichever worker it meets.
    tolerance: 0,
    async open() {
      const backend = createLocalBackend({
        engine: file,
        onMappedRefusal: () => undefined,
        slotCount: 2,
        spareSlotCount: 0,
        messageTextsMax: 16,
        messageTokensMax: 320,
        textMemory: planTextMemory({ dimension: manifest.dimension, storesScores: true }),
        memoryBytesMax: 1e9,
        workerUrl: new URL('../../../workers/inference-worker.ts', import.meta.url),
        init: {
          modelPath: join(MODELS, manifest.id, file),
          threadCount: 1,
          wideThreadCount: 2,
          outputs: manifest.outputs,
          dimension: manifest.dimension,
        },
        startMsMax: 60_000,
        restartsMax: 0,
        clock: systemClock,
        log: createLog({ level: 'error', write: (l) => process.stderr.write(l) }),
      });
      return { backend, close: () => backend.close() };
    },
  });
}
