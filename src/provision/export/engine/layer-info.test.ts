import { describe, expect, test } from 'bun:test';
import { attentionsFor, describeAttention, readAttention } from './layer-info.ts';

const info = (...Layers: unknown[]) => JSON.stringify({ Layers, Bindings: ['input_ids'] });
const FUSED = { Name: '_gemm_mha_v2_myl0_12', LayerType: 'kgen', Metadata: '[ONNX Layer: /attn]' };
const SOFTMAX = '__myl_MaxrSubExpSumDivMul_myl0_9 [profile 1]';

describe('the layers of an engine', () => {
  test.each([
    [info(FUSED, 'Reformat', { ...FUSED, Name: 'fmha_v2_flash [profile 1]' }), 'fused', 2, 0],
    [info(FUSED, SOFTMAX), 'partly', 1, 1],
    [info(SOFTMAX, '__myl_Gemm'), 'none', 0, 1],
    [info({ Name: 'layer.0/Softmax', LayerType: 'SoftMax' }), 'none', 0, 1],
    // Its verbosity was too low, or it wrote nothing.
    [info('{ForeignNode[a...b]}'), 'unknown', 0, 0],
    ['', 'unknown', 0, 0],
    ['{"Layers": 3}', 'unknown', 0, 0],
  ] as const)('%s: %s', (text, fusion, fusedCount, softmaxCount) => {
    const kernels = readAttention(text, 'half');
    expect(kernels).toEqual({ precision: 'half', fusion, fusedCount, softmaxCount });
  });

  test('that are not fused are a warning with the cost', () => {
    const words = describeAttention(readAttention(info(SOFTMAX), 'half'), 28e9);
    expect(words).toStartWith('warning: attention in half is not fused');
    expect(words).toContain('scores take up to 28.0 GB');
    expect(describeAttention(readAttention(info(FUSED), 'float'), 1)).toBe(
      'attention in float: fused, 1 kernels',
    );
  });
});

test.each([
  ['10.13.2', ['half', 'float-softmax']],
  ['11.1.0', ['half', 'float-softmax']],
  ['11.3.0', ['float', 'half', 'float-softmax']],
  ['12.0.0', ['float', 'half', 'float-softmax']],
])('TensorRT %s is asked for %p', (version, precisions) => {
  expect<readonly string[]>(attentionsFor(version)).toEqual(precisions);
});
