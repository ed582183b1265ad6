import { describe, expect, test } from 'bun:test';
import { planProfiles } from '../../../model/engine-profiles.ts';
import { recordedHelp } from '../../../testing/export/trtexec-help.ts';
import { parseTrtexecHelp, planTrtexecArguments } from './build-engine.ts';

const profiles = planProfiles({ batchTokensMax: 16_384, tokensMax: 8_192, batchTextsMax: 64 });

function argumentsFor(packedVersion: number): string[] {
  return planTrtexecArguments({
    trtexec: parseTrtexecHelp(recordedHelp(packedVersion)),
    onnx: '/onnx/model.onnx',
    plan: '/plan/model.plan',
    timingCache: '/plan/timing.cache',
    layerInfo: '/plan/layers.json',
    inputs: ['input_ids', 'attention_mask'],
    profiles,
  });
}

describe('the banner', () => {
  test.each([
    ['&&&& RUNNING TensorRT.trtexec [TensorRT v101302] [b6] # trtexec --help', '10.13.2'],
    ['&&&& RUNNING TensorRT.trtexec [TensorRT v100500] [b18] # trtexec --help', '10.5.0'],
    ['&&&& RUNNING TensorRT.trtexec [TensorRT v110100] [b106] # trtexec --help', '11.1.0'],
    ['&&&& RUNNING TensorRT.trtexec [TensorRT v11.1.0.106] [b48]', '11.1.0'],
  ])('%s', (banner, version) => {
    expect(parseTrtexecHelp(banner).version).toBe(version);
  });

  test.each(['[TensorRT v8602]', '[TensorRT v8.6.1]'])('%s is too old', (banner) => {
    expect(() => parseTrtexecHelp(banner)).toThrow(/TensorRT 8\.6\.\d is too old/);
  });

  test('comes after what the image prints, which is not taken for options', () => {
    const printed = 'NOTE: NVIDIA recommends\n   docker run --gpus all --noTF32 --ipc=host ...\n\n';
    const help = printed + recordedHelp(101_302).replace('--noTF32', '');
    const trtexec = parseTrtexecHelp(help);
    expect(trtexec.version).toBe('10.13.2');
    expect(trtexec.options).toContain('skipInference');
    expect(trtexec.options).not.toContain('noTF32');
  });

  test('that is missing is quoted', () => {
    expect(() => parseTrtexecHelp('sh: trtexec: not found')).toThrow('trtexec: not found');
  });
});

describe('the command line', () => {
  test('of TensorRT 10 asks for a strongly typed network', () => {
    expect(argumentsFor(101_302)).toEqual([
      '--onnx=/onnx/model.onnx',
      '--saveEngine=/plan/model.plan',
      '--profile=0',
      '--minShapes=input_ids:1x2,attention_mask:1x2',
      '--optShapes=input_ids:16x32,attention_mask:16x32',
      '--maxShapes=input_ids:64x64,attention_mask:64x64',
      '--profile=1',
      '--minShapes=input_ids:1x65,attention_mask:1x65',
      '--optShapes=input_ids:32x256,attention_mask:32x256',
      '--maxShapes=input_ids:32x512,attention_mask:32x512',
      '--profile=2',
      '--minShapes=input_ids:1x513,attention_mask:1x513',
      '--optShapes=input_ids:8x1024,attention_mask:8x1024',
      '--maxShapes=input_ids:8x2048,attention_mask:8x2048',
      '--profile=3',
      '--minShapes=input_ids:1x2049,attention_mask:1x2049',
      '--optShapes=input_ids:2x4096,attention_mask:2x4096',
      '--maxShapes=input_ids:2x8192,attention_mask:2x8192',
      '--stronglyTyped',
      '--noTF32',
      '--timingCacheFile=/plan/timing.cache',
      '--profilingVerbosity=detailed',
      '--exportLayerInfo=/plan/layers.json',
      '--skipInference',
    ]);
  });

  test('of TensorRT 11 does not, as it has no other', () => {
    expect(argumentsFor(110_100)).not.toContain('--stronglyTyped');
    expect(argumentsFor(110_100)).toHaveLength(argumentsFor(101_302).length - 1);
  });

  test.each([101_302, 110_100])('of %p has only options that its help lists', (version) => {
    const { options } = parseTrtexecHelp(recordedHelp(version));
    const used = argumentsFor(version).map((argument) => argument.slice(2).split('=')[0] ?? '');
    expect(used.filter((option) => !options.has(option))).toEqual([]);
  });

  test('leaves out what a version does not know', () => {
    const help = recordedHelp(101_302).replace('--noTF32', '').replace('--skipInference', '');
    const line = planTrtexecArguments({
      trtexec: parseTrtexecHelp(help),
      onnx: 'a',
      plan: 'b',
      timingCache: 'c',
      layerInfo: 'd',
      inputs: ['ids'],
      profiles,
    });
    expect(line.join(' ')).not.toMatch(/noTF32|skipInference/);
  });

  test('is refused where the precision would be ignored', () => {
    const help = recordedHelp(101_302).replace('--stronglyTyped', '');
    const files = { onnx: 'a', plan: 'b', timingCache: 'c', layerInfo: 'd' };
    const options = { ...files, inputs: ['ids'], profiles };
    expect(() => planTrtexecArguments({ trtexec: parseTrtexecHelp(help), ...options })).toThrow(
      'TensorRT 10.13.2 has no --stronglyTyped',
    );
  });
});
