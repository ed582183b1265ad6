import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Golden, loadGolden, SMALL_MODEL_FOLDER } from '../../testing/golden/xlmr-small.ts';
import {
  bfloat16Data,
  ELEMENT,
  fileData,
  floatTensor,
  halfData,
  loadData,
  memoryData,
  type OnnxModel,
} from './model.ts';
import { createOnnxSession } from './onnx-session.ts';
import { createMemorySource, ProtoWriter, protoFields, readVarints } from './protobuf.ts';
import { readExternalFiles, readModel } from './read-model.ts';
import { writeModel } from './write-model.ts';

let folder: string;
let golden: Golden;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'onnx-test-'));
  golden = await loadGolden();
});
afterAll(() => rm(folder, { recursive: true }));

const hub = join(SMALL_MODEL_FOLDER, 'hub', 'model.onnx');
const bare = join(SMALL_MODEL_FOLDER, 'bare', 'model.onnx');

const bytesOf = (writer: ProtoWriter): Uint8Array => Buffer.concat(writer.parts);

describe('a model that is read and written again', () => {
  test.each([
    ['with weights outside', hub, 'token_embeddings'],
    ['in one file', bare, 'last_hidden_state'],
  ])('%s answers the same', async (_name, path, output) => {
    const copy = join(await mkdtemp(join(folder, 'copy-')), 'model.onnx');
    writeModel(readModel(path), copy);
    const [before, after] = await Promise.all([createOnnxSession(path), createOnnxSession(copy)]);
    const texts = golden.texts.map((text) => text.ids);
    const [expected, got] = [await before.run(texts), await after.run(texts)];
    expect(got.get(output)?.values).toEqual(expected.get(output)?.values ?? new Float32Array());
    await Promise.all([before.close(), after.close()]);
  });

  test('the structure is that of the file', () => {
    const model = readModel(hub);
    expect(model.opsets.get('')).toBe(11);
    expect(model.graph.inputs.map((input) => input.name)).toEqual(['input_ids', 'attention_mask']);
    expect(model.graph.outputs[0]?.dims).toEqual(['batch', 'sequence', 32]);
    expect(model.graph.nodes.filter((node) => node.op === 'MatMul')).toHaveLength(16);
  });

  test('the files outside are named, those of node attributes among them', () => {
    expect(readExternalFiles(hub).sort()).toEqual(['Constant_7_attr__value', 'model.onnx_data']);
    expect(readExternalFiles(bare)).toEqual([]);
  });

  test('nothing half-written keeps a final name when the weights cannot be read', async () => {
    const model = readModel(bare);
    const data = fileData({ path: hub, start: 0, byteCount: 1e9 });
    const lost = { name: 'lost', dims: [250_000_000], elementType: ELEMENT.float, data };
    const broken: OnnxModel = {
      ...model,
      graph: { ...model.graph, constants: new Map([['lost', lost]]) },
    };
    const target = await mkdtemp(join(folder, 'broken-'));
    expect(() => writeModel(broken, join(target, 'model.onnx'))).toThrow(/ends at byte/);
    expect((await readdir(target)).filter((name) => !name.endsWith('.partial'))).toEqual([]);
  });
});

describe('what is no usable model', () => {
  /** A graph with one constant whose fields the test chooses. */
  async function writeConstant(fill: (tensor: ProtoWriter) => ProtoWriter): Promise<string> {
    const tensor = fill(new ProtoWriter().text(8, 'w'));
    const graph = new ProtoWriter().message(5, tensor);
    const path = join(await mkdtemp(join(folder, 'bad-')), 'model.onnx');
    await Bun.write(path, bytesOf(new ProtoWriter().varint(1, 8).message(7, graph)));
    return path;
  }
  const external = (location: string) => (tensor: ProtoWriter) =>
    tensor
      .varint(1, 2)
      .varint(2, ELEMENT.float)
      .message(13, new ProtoWriter().text(1, 'location').text(2, location))
      .varint(14, 1);

  test.each(['../secret', '/etc/passwd', 'a/../../b', ''])(
    'refuses weights at "%s"',
    async (at) => {
      const path = await writeConstant(external(at));
      expect(() => readModel(path)).toThrow(/not a file beside the model/);
    },
  );

  test('names the missing file', async () => {
    const path = await writeConstant(external('gone.bin'));
    expect(() => readModel(path)).toThrow(/gone.bin, which is not there/);
  });

  test('refuses a shape that its bytes do not fill', async () => {
    const path = await writeConstant((tensor) =>
      tensor.varint(1, 3).varint(2, ELEMENT.float).bytes(9, new Uint8Array(8)),
    );
    expect(() => readModel(path)).toThrow('has 8 bytes, but its shape [3] needs 12');
  });

  test('refuses bytes that are no protobuf, at every cut', async () => {
    const whole = await Bun.file(bare).bytes();
    const path = join(folder, 'cut.onnx');
    for (const length of [1, 2, 3, 9, 17, 100, 1_000, 40_000, 100_000, whole.length - 1]) {
      await Bun.write(path, whole.subarray(0, length));
      expect(() => readModel(path)).toThrow(/no ONNX model|Not a protobuf|ends at byte/);
    }
  });
});

describe('protobuf', () => {
  test('numbers survive the wire, whatever their sign and size', () => {
    const values = [0n, 1n, 127n, 128n, 300n, 2n ** 31n, 2n ** 63n - 1n, -1n, -(2n ** 63n)];
    const writer = new ProtoWriter();
    for (const value of values) writer.varint(8, value);
    const source = createMemorySource(bytesOf(writer));
    const fields = [...protoFields(source)].flatMap((field) => readVarints(source, field));
    expect(fields.map((value) => BigInt.asIntN(64, value))).toEqual(values);
  });

  test('packed numbers read like single ones', () => {
    const source = createMemorySource(
      bytesOf(new ProtoWriter().bytes(1, Uint8Array.of(1, 0x80, 1))),
    );
    const [field] = [...protoFields(source)];
    expect(field && readVarints(source, field)).toEqual([1n, 128n]);
  });
});

describe('float16 weights', () => {
  test('round to nearest even', () => {
    const { data } = floatTensor('w', [4], [1 + 2 ** -11, 1 + 3 * 2 ** -11, 65_504, 1e-9]);
    expect(Array.from(new Uint16Array(loadData(halfData(data, 'w')).buffer))).toEqual([
      0x3c00, 0x3c02, 0x7bff, 0,
    ]);
  });

  test.each([65_520, Number.POSITIVE_INFINITY, Number.NaN])('refuse %p, by name', (value) => {
    const data = memoryData(new Uint8Array(Float32Array.of(1, value).buffer));
    expect(() => loadData(halfData(data, 'layer.7.weight'))).toThrow(/layer.7.weight/);
  });
});

describe('bfloat16', () => {
  const bitsOf = (...values: number[]) => {
    const data = memoryData(new Uint8Array(Float32Array.from(values).buffer));
    return [...new Uint16Array(loadData(bfloat16Data(data, 'w')).buffer)];
  };

  test('is the upper half of float32, rounded to nearest even', () => {
    // 1, the next number and what lies between them: 1 + 2⁻⁸ is a tie, and goes to the even one.
    expect(bitsOf(1, 1 + 2 ** -7, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20)).toEqual([
      ...[0x3f80, 0x3f81, 0x3f80, 0x3f82, 0x3f81],
    ]);
    expect(bitsOf(-2, 0, 65_536)).toEqual([0xc000, 0, 0x4780]);
  });

  test('has no infinity in the place of a weight', () => {
    expect(() => bitsOf(Number.NaN)).toThrow('A weight of w is not finite');
  });
});
