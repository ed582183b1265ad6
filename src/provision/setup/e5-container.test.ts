import { expect, test } from 'bun:test';
import { parseE5Container } from './e5-container.ts';

/**
 * A container with three pieces, one vector and one matrix of a single block, written field by
 * field.
 */
function sampleContainer(): Buffer {
  const block = Buffer.alloc(18);
  block.writeUInt16LE(0x3800, 0); // float16 0.5
  // Value i is i % 16, both in the lower half (0 to 15) and in the upper one (16 to 31).
  for (let i = 0; i < 16; i++) block[2 + i] = i | (i << 4);
  const vector = Buffer.alloc(8);
  vector.writeFloatLE(1.5, 0);
  vector.writeFloatLE(-2, 4);
  const head = Buffer.concat([
    Buffer.from('E5S1'),
    int32(1),
    ...[384, 12, 6, 1536, 100, 512, 0].map(int32),
    Buffer.alloc(8),
    int32(3),
    Buffer.alloc(16),
    int64(5),
    ...[0, 1, 3, 5].map(int32), // Offsets of the pieces.
    ...[0, -1.5, -2.25].map(float32),
    Buffer.from('aяb!', 'utf8'),
    Buffer.alloc(4),
    int32(3),
    Buffer.from('xyz'),
    int32(2),
  ]);
  const entries = (start: number) =>
    Buffer.concat([entry('v', 2, start), entry('m.w', 32, start + vector.length)]);
  const start = head.length + entries(0).length;
  return Buffer.concat([head, entries(start), vector, block]);
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}

function int64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(BigInt(value));
  return bytes;
}

function float32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
}

function entry(name: string, valueCount: number, offset: number): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16LE(name.length);
  return Buffer.concat([
    length,
    Buffer.from(name),
    Buffer.alloc(1),
    int32(valueCount),
    int64(offset),
    int64(0),
  ]);
}

test('sizes, pieces and scores are read', () => {
  const container = parseE5Container(sampleContainer());
  expect(container).toMatchObject({
    hiddenSize: 384,
    layerCount: 12,
    attentionHeadCount: 6,
    feedForwardSize: 1536,
    vocabularySize: 100,
    positionCountMax: 512,
    pieces: ['a', 'я', 'b!'],
  });
  expect([...container.scores]).toEqual([0, -1.5, -2.25]);
});

test('a vector is read at any offset', () => {
  const bytes = sampleContainer();
  expect([...parseE5Container(bytes).floats('v')]).toEqual([1.5, -2]);
});

test('a block is unpacked so that neighbours share a byte, the even one below', () => {
  const { values, scales } = parseE5Container(sampleContainer()).quantized('m.w');
  expect([...scales]).toEqual([0.5]);
  const natural = [...values].flatMap((byte) => [byte & 0x0f, byte >> 4]);
  expect(natural).toEqual(Array.from({ length: 32 }, (_, index) => index % 16));
});

test('what is no container, or has no such tensor, is refused', () => {
  expect(() => parseE5Container(Buffer.from('GGUF0000'))).toThrow('no E5S1 container');
  expect(() => parseE5Container(sampleContainer()).floats('w')).toThrow('no tensor "w"');
});
