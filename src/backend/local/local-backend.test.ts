import { expect, test } from 'bun:test';
import { createLog } from '../../base/log.ts';
import { VirtualClock } from '../../testing/virtual-clock.ts';
import { KILLER_ID } from '../../testing/workers/scripted-inference.ts';
import { headSet } from '../../vectors/output.ts';
import { createLocalBackend } from './local-backend.ts';
import { planTextMemory } from './memory-budget.ts';

test('a batch behind the one that ends its worker is not taken for what ended it', async () => {
  const backend = createLocalBackend({
    ...{ engine: 'scripted', slotCount: 1, spareSlotCount: 0, onMappedRefusal: () => undefined },
    ...{ messageTextsMax: 16, messageTokensMax: 320, memoryBytesMax: 1e9 },
    textMemory: planTextMemory({ dimension: 1, storesScores: true }),
    workerUrl: new URL('../../testing/workers/scripted-inference.ts', import.meta.url),
    init: { modelPath: '', threadCount: 1, wideThreadCount: 0, outputs: {}, dimension: 1 },
    ...{ startMsMax: 10_000, restartsMax: 0, clock: new VirtualClock() },
    log: createLog({ level: 'error', write: () => undefined }),
  });
  await backend.started;
  const infer = (id: number) =>
    backend.infer({ texts: [Int32Array.of(0, id, 2)], paddedLength: 3, heads: headSet(['dense']) });
  const [killer, behind] = await Promise.allSettled([infer(KILLER_ID), infer(5)]);
  expect(killer).toMatchObject({
    reason: { code: 'EMB_BACKEND_FAILED', cause: { isDeath: true } },
  });
  // Another may take it, and it is no suspect.
  expect(behind).toMatchObject({ reason: { code: 'EMB_BACKEND_UNAVAILABLE' } });
  await backend.close();
});
