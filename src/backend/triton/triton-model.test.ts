import { describe, expect, test } from 'bun:test';
import { type ExpectedModel, readTritonModel } from './triton-model.ts';

const EXPECTED: ExpectedModel = {
  dimension: 1024,
  padId: 1,
  heads: ['dense', 'sparse', 'multi_vector'],
  outputs: { dense: 'dense_vecs', sparse: 'sparse_vecs', multi_vector: 'colbert_vecs' },
};

interface Tensor {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
}

function input(name: string, datatype = 'INT64'): Tensor {
  return { name, datatype, shape: [-1, -1] };
}

function output(name: string, options: Partial<Tensor> = {}): Tensor {
  return { name, datatype: 'FP32', shape: [-1, 1024], ...options };
}

const INPUTS = [input('input_ids'), input('attention_mask')];

function read(
  metadata: { inputs?: unknown; outputs?: unknown },
  options: { config?: object; expected?: Partial<ExpectedModel> } = {},
) {
  const whole = { inputs: INPUTS, outputs: [output('dense_vecs')], ...metadata };
  const expected = { ...EXPECTED, ...options.expected };
  return readTritonModel(whole, options.config ?? { max_batch_size: 32 }, expected);
}

describe('a model', () => {
  test('with the names of the manifest', () => {
    const outputs = [
      output('colbert_vecs', { shape: [-1, -1, 1024] }),
      output('dense_vecs'),
      output('sparse_vecs', { shape: [-1, -1, 1] }),
    ];
    expect(read({ outputs })).toEqual({
      signature: {
        idsInput: 'input_ids',
        maskInput: 'attention_mask',
        inputDatatype: 'INT64',
        outputs: { dense: 'dense_vecs', sparse: 'sparse_vecs', multi_vector: 'colbert_vecs' },
        dimension: 1024,
        padId: 1,
      },
      batchTextsMax: 32,
      profiles: undefined,
    });
  });

  test('with names of its own, in another order, as INT32', () => {
    const inputs = [input('mask_ids', 'INT32'), input('IDs', 'INT32')];
    const { signature } = read({ inputs, outputs: [output('something')] });
    expect(signature).toMatchObject({
      idsInput: 'IDs',
      maskInput: 'mask_ids',
      inputDatatype: 'INT32',
      outputs: { dense: 'something' },
    });
  });

  test('with the names that published graphs give', () => {
    for (const name of ['sentence_embedding', 'dense', 'embeddings']) {
      const { signature } = read({ outputs: [output('token_embeddings'), output(name)] });
      expect(signature.outputs).toEqual({ dense: name });
    }
  });

  test('that lacks a head serves without it, but never without the first', () => {
    expect(read({}).signature.outputs).toEqual({ dense: 'dense_vecs' });
    const outputs = [output('sparse_vecs', { shape: [-1, -1] }), output('colbert_vecs')];
    expect(() => read({ outputs })).toThrow('sparse_vecs, colbert_vecs');
  });

  test('without a limit on its batches has none', () => {
    for (const config of [{ max_batch_size: 0 }, {}]) {
      expect(read({}, { config }).batchTextsMax).toBe(Number.POSITIVE_INFINITY);
    }
  });

  test('of any dimension says -1', () => {
    const outputs = [output('dense_vecs', { shape: [-1, -1] })];
    expect(read({ outputs }).signature.dimension).toBe(1024);
  });
});

describe('another model is refused in a sentence for the operator', () => {
  test.each([
    ['no inputs', { inputs: undefined }, 'no inputs and outputs'],
    ['no outputs', { outputs: undefined }, 'no inputs and outputs'],
    ['one input', { inputs: [input('input_ids')] }, 'input_ids INT64'],
    ['three inputs', { inputs: [...INPUTS, input('token_type_ids')] }, 'token_type_ids'],
    ['images', { inputs: [input('pixels'), input('mask')] }, 'pixels'],
    ['bytes', { inputs: [input('input_ids', 'BYTES'), INPUTS[1]] }, 'BYTES'],
    ['unlike inputs', { inputs: [input('input_ids', 'INT32'), INPUTS[1]] }, 'both INT32'],
    ['float16', { outputs: [output('dense_vecs', { datatype: 'FP16' })] }, 'FP16'],
    ['384 dimensions', { outputs: [output('dense_vecs', { shape: [-1, 384] })] }, 'manifest says'],
  ])('%s', (_name, metadata, words) => {
    expect(() => read(metadata)).toThrow(words);
  });
});

describe('the profiles of an engine', () => {
  const config = (text: unknown) => ({
    max_batch_size: 64,
    parameters: { profiles: { string_value: text } },
  });

  test('are what its configuration says', () => {
    expect(read({}, { config: config('64x64,2x512') }).profiles).toEqual([
      { textCount: 64, tokenCount: 64 },
      { textCount: 2, tokenCount: 512 },
    ]);
    expect(read({}, { config: { parameters: {} } }).profiles).toBeUndefined();
  });

  test.each(['', '64', 7, '2x512,64x64'])('are not %p: the operator is told', (text) => {
    expect(() => read({}, { config: config(text) })).toThrow('which is no list of shapes');
  });
});

describe('a response cache', () => {
  const config = { max_batch_size: 32, response_cache: { enable: true } };

  // Its key is the model and the input bytes: not the outputs that were asked for.
  test('is refused by name where there are several heads', () => {
    const outputs = [output('dense_vecs'), output('sparse_vecs', { shape: [-1, -1, 1] })];
    expect(() => read({ outputs }, { config })).toThrow('response_cache { enable: true }');
    const off = { ...config, response_cache: { enable: false } };
    expect(read({ outputs }, { config: off }).batchTextsMax).toBe(32);
  });

  test('may be on where there is one', () => {
    expect(read({}, { config }).batchTextsMax).toBe(32);
  });
});
