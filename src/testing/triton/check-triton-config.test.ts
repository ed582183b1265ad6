import { expect, setDefaultTimeout, test } from 'bun:test';
import { checkTritonConfig } from './check-triton-config.ts';

// Each check is a start and a polite stop of Triton, one to two seconds.
setDefaultTimeout(60_000);

const IDS = 'input { name: "input_ids" data_type: TYPE_INT64 dims: [ -1 ] }';
const MASK = 'input { name: "attention_mask" data_type: TYPE_INT64 dims: [ -1 ] }';
const GOOD = `
  name: "engine"
  platform: "tensorrt_plan"
  max_batch_size: 16
  ${IDS}
  ${MASK}
  output { name: "sentence_embedding" data_type: TYPE_FP32 dims: [ 1024 ] }
  instance_group { count: 1 kind: KIND_GPU gpus: [ 0 ] }
`;

test('a configuration for a GPU passes on a machine without one', async () => {
  expect(await checkTritonConfig(GOOD)).toMatchObject({
    name: 'engine',
    platform: 'tensorrt_plan',
    max_batch_size: 16,
    input: [{ name: 'input_ids', dims: [-1] }, { name: 'attention_mask' }],
    output: [{ name: 'sentence_embedding', data_type: 'TYPE_FP32', dims: [1024] }],
  });
});

// The last is one that Triton lets pass.
test.each([
  ['a field that does not exist', GOOD.replace('max_batch_size', 'max_batch'), /max_batch/],
  ['broken syntax', GOOD.replace('[ 1024 ]', '[ 1024 '), /config|cpu\.pbtxt|pars/i],
  [
    'a preferred batch over the limit',
    `${GOOD} dynamic_batching { preferred_batch_size: [ 32 ] }`,
    /preferred/,
  ],
  ['no name', GOOD.replace('name: "engine"', ''), /no name/],
  ['a name twice', `${GOOD} ${IDS}`, /input_ids twice/],
])('%s is refused in clear words', async (_what, configText, words) => {
  await expect(checkTritonConfig(configText)).rejects.toThrow(words);
});
