import { expect, test } from 'bun:test';
import { decodeMsgpackInPython } from './decode-msgpack.ts';
import { runPython } from './run-python.ts';

/** Two rows of three, of numbers that decimal digits tell badly. */
const ROWS = new Float32Array([1 / 3, -0, 1e-40, 3.4e38, 0.1, -1 / 7]);
const BLOCK = new Uint8Array(ROWS.buffer);
const ARRAY = { dtype: '<f4', shape: [2, 3], bytes: BLOCK };

/** Bytes of a msgpack value, by the few rules of the format that a reply needs. */
const text = (value: string) => [0xa0 + value.length, ...new TextEncoder().encode(value)];
const bin = (value: Uint8Array | string) => {
  const bytes = typeof value === 'string' ? new TextEncoder().encode(value) : value;
  return [0xc4, bytes.length, ...bytes];
};
const list = (...values: number[][]) => [0x90 + values.length, ...values.flat()];
const map = (...pairs: number[][]) => [0x80 + pairs.length / 2, ...pairs.flat()];
const shape = list([2], [3]);

const plainReply = (block: Uint8Array) =>
  new Uint8Array(
    map(
      ...[text('model'), text('m')],
      ...[
        text('rows'),
        map(text('dtype'), text('<f4'), text('shape'), shape, text('data'), bin(block)),
      ],
    ),
  );

/** The layout that msgpack-numpy writes. It looks for its keys as bytes, not as strings. */
const numpyReply = (key: (name: string) => number[]) =>
  new Uint8Array(
    map(
      text('rows'),
      map(
        ...[key('nd'), [0xc3], key('type'), text('<f4'), key('kind'), bin('')],
        ...[key('shape'), shape, key('data'), bin(BLOCK)],
      ),
    ),
  );

test('Python reads a map of dtype, shape and data with numpy alone', async () => {
  const reply = await decodeMsgpackInPython({ decoder: 'plain', reply: plainReply(BLOCK) });
  expect(reply).toEqual({ model: 'm', rows: ARRAY });
});

test('Python reads the layout of msgpack-numpy straight to an ndarray', async () => {
  const reply = await decodeMsgpackInPython({ decoder: 'numpy', reply: numpyReply(bin) });
  expect(reply).toEqual({ rows: ARRAY });
});

test('a layout that msgpack-numpy does not know stays bytes, and shows as such', async () => {
  const reply = await decodeMsgpackInPython({ decoder: 'numpy', reply: numpyReply(text) });
  expect(reply).toMatchObject({ rows: { data: { bytes: 24 } } });
});

test('a block of the wrong length is told in the words of numpy', async () => {
  const reply = plainReply(BLOCK.slice(4));
  await expect(decodeMsgpackInPython({ decoder: 'plain', reply })).rejects.toThrow(/reshape/);
});

test('a script that fails is an error with what it said', async () => {
  const script = `${import.meta.dir}/no_such_script.py`;
  await expect(runPython({ script })).rejects.toThrow(/no_such_script/);
});
