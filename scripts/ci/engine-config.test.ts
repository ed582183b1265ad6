/**
 * The shipped configuration of the engine, held against Triton's own parser and against the model's
 * manifest.
 */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { formatProfiles, planProfiles } from '../../src/model/engine-profiles.ts';
import { loadManifest } from '../../src/model/manifest.ts';
import { engineConfig } from '../../src/provision/export/engine/engine-config.ts';
import { checkTritonConfig } from '../../src/testing/triton/check-triton-config.ts';

// A start and a polite stop of Triton.
setDefaultTimeout(60_000);

const DEFAULT_PROFILES = planProfiles({
  batchTokensMax: 16_384,
  tokensMax: 8_192,
  batchTextsMax: 64,
});

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
  // A request is one execution: joined ones would fit no profile.
  expect(config.dynamic_batching).toBeUndefined();
  expect(config.instance_group).toMatchObject([{ count: 1, profile: ['0', '1', '2', '3'] }]);
  expect(config.parameters).toEqual({
    execution_context_allocation_strategy: { string_value: 'ON_PROFILE_CHANGE' },
    profiles: { string_value: formatProfiles(DEFAULT_PROFILES) },
  });
  expect(config.max_batch_size).toBe(64);
});

test('what the export writes for other profiles is accepted, too', async () => {
  const template = await Bun.file('models/bge_model/config.pbtxt').text();
  expect(engineConfig(template, DEFAULT_PROFILES)).toBe(template);
  const shapes = planProfiles({ batchTokensMax: 2_048, tokensMax: 2_048, batchTextsMax: 16 });
  const config = await checkTritonConfig(engineConfig(template, shapes));
  expect(config.max_batch_size).toBe(16);
  expect(config.instance_group).toMatchObject([{ count: 1, profile: ['0', '1', '2'] }]);
  expect(config.parameters).toMatchObject({ profiles: { string_value: '16x64,4x512,1x2048' } });
  expect(() => engineConfig('name: "other"', shapes)).toThrow('config.pbtxt has no');
});
