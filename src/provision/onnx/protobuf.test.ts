import { expect, test } from 'bun:test';
import { ProtoWriter } from './protobuf.ts';

function hexOf(writer: ProtoWriter): string {
  const bytes = Buffer.concat([...writer.parts]);
  expect(bytes.length).toBe(writer.byteLength);
  return bytes.toString('hex');
}

// The examples of the protobuf encoding guide: field 1 = 150, field 2 = "testing", field 3 = {
// field 1 = 150 }.
test('integers, strings and messages are encoded as the guide shows them', () => {
  expect(hexOf(new ProtoWriter().varint(1, 150))).toBe('089601');
  expect(hexOf(new ProtoWriter().text(2, 'testing'))).toBe('120774657374696e67');
  const inner = new ProtoWriter().varint(1, 150);
  expect(hexOf(new ProtoWriter().message(3, inner))).toBe('1a03089601');
});

test('negative and large integers are 64-bit two’s complement', () => {
  expect(hexOf(new ProtoWriter().varint(1, -1))).toBe('08ffffffffffffffffff01');
  expect(hexOf(new ProtoWriter().varint(1, 2n ** 63n - 1n))).toBe('08ffffffffffffffff7f');
  expect(hexOf(new ProtoWriter().varint(1, 0))).toBe('0800');
});

test('field numbers over 15 take two bytes, floats four', () => {
  expect(hexOf(new ProtoWriter().varint(20, 7))).toBe('a00107');
  expect(hexOf(new ProtoWriter().float(2, 1))).toBe('150000803f');
});

test('blocks are borrowed, not copied', () => {
  const block = new Uint8Array(1000);
  const writer = new ProtoWriter().bytes(9, block);
  expect(writer.parts.at(-1)).toBe(block);
  expect(writer.byteLength).toBe(1 + 2 + 1000);
});
