import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SMALL_MODEL_FOLDER } from '../../testing/golden/xlmr-small.ts';
import { loadFloats } from '../onnx/model.ts';
import { readLinearLayer } from './torch-file.ts';
import { readPickle } from './torch-pickle.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'torch-test-'));
});
afterAll(() => rm(folder, { recursive: true }));

const sparsePath = join(SMALL_MODEL_FOLDER, 'hub', 'sparse_linear.pt');
const colbertPath = join(SMALL_MODEL_FOLDER, 'hub', 'colbert_linear.pt');

describe('a linear layer', () => {
  // The first numbers as torch.load prints them.
  test('in float32', async () => {
    const { weight, bias } = await readLinearLayer(sparsePath);
    expect([weight.dims, bias.dims]).toEqual([[1, 32], [1]]);
    expect(loadFloats(weight)[0]).toBeCloseTo(-0.1098, 4);
    expect(loadFloats(bias)[0]).toBeCloseTo(0.1336, 4);
  });

  test('in float16', async () => {
    const { weight, bias } = await readLinearLayer(colbertPath);
    expect([weight.dims, bias.dims]).toEqual([[32, 32], [32]]);
    expect(loadFloats(weight)[2]).toBeCloseTo(0.0956, 4);
    expect(loadFloats(bias)[2]).toBeCloseTo(-0.1479, 4);
  });
});

describe('a file that is damaged', () => {
  test('is refused at whatever byte it ends', async () => {
    const whole = await Bun.file(sparsePath).bytes();
    const path = join(folder, 'cut.pt');
    for (let length = 0; length < whole.length; length += 7) {
      await Bun.write(path, whole.subarray(0, length));
      await expect(readLinearLayer(path)).rejects.toThrow('no zip archive, or is damaged');
    }
  });

  test('is refused when one bit of a weight flipped', async () => {
    const bytes = await Bun.file(colbertPath).bytes();
    const path = join(folder, 'flipped.pt');
    const at = bytes.length >> 1;
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    await Bun.write(path, bytes);
    await expect(readLinearLayer(path)).rejects.toThrow('checksum');
  });
});

describe('a pickle that wants to run something', () => {
  const pickle = (text: string) => Uint8Array.from(text, (char) => char.charCodeAt(0));

  test('is refused by the name of what it calls', () => {
    // What `pickle.dumps` makes of an object whose __reduce__ is os.system('true').
    const attack = pickle('cposix\nsystem\nX\x04\0\0\0true\x85R.');
    expect(() => readPickle(attack, 'evil.pt')).toThrow('the pickle calls posix system');
  });

  test.each(['constructor x', '__proto__ x', 'toString x'])('finds no %s in our tables', (name) => {
    const [module, member] = name.split(' ');
    const attack = pickle(`c${module}\n${member}\n)R.`);
    expect(() => readPickle(attack, 'evil.pt')).toThrow('the pickle calls');
  });

  test.each([
    ['(i__main__\nx\n.', /opcode 0x69/],
    ['cbuiltins\neval\n.', undefined],
    ['', /cut short/],
    ['.', /takes more than it gives/],
    ['t.', /no mark/],
    ['K\x01K\x02K\x03s.', /no dictionary/],
    ['X\xff\xff\xff\x7fa', /cut short|opcode/],
  ])('%p is harmless', (text, message) => {
    if (message) expect(() => readPickle(pickle(text), 'x')).toThrow(message);
    else expect(readPickle(pickle(text), 'x')).toEqual({ name: 'builtins eval' });
  });
});
