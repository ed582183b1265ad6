/**
 * The shipped configuration of the engine, held against Triton's own parser and against the model's
 * manifest.
 */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { loadManifest } from '../../src/model/manifest.ts';
import { checkTritonConfig } from '../../src/testing/triton/check-triton-config.ts';

// A start and a polite stop of Triton.
setDefaultTimeout(60_000);

test('models/bge_model/config.pbtxt is what Triton accepts and the manifest names', async () => {
  const manifest = await loadManifest({ modelsDir: 'models', name: 'bge-m3' });
  const { dense, sparse, multi_vector: multiVector } = manifest.outputs;
  const config = await checkTritonConfig(await Bun.file('models/bge_model/config.pbtxt').text());
  expect(config).toMatchObject({
    name: manifest.tritonModel,
    platform: 'tensorrt_plan',
    input: [
      { name: 'input_ids', data_type: 'TYPE_INT64', dims: [-1] },
      { name: 'attention_mask', data_type: 'TYPE_INT64', dims: [-1] },
    ],
    output: [
      { name: dense, data_type: 'TYPE_FP32', dims: [manifest.dimension] },
      { name: sparse, data_type: 'TYPE_FP32', dims: [-1] },
      { name: multiVector, data_type: 'TYPE_FP32', dims: [-1, manifest.dimension] },
    ],
  });
  // Bounded in number and time: an unbounded queue would hide an overload until nobody waits for
  // the answers.
  expect(config.dynamic_batching).toMatchObject({
    default_queue_policy: { max_queue_size: 64, timeout_action: 'REJECT' },
  });
});
