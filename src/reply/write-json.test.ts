import { expect, test } from 'bun:test';
import { InvariantError } from '../base/errors.ts';
import { writeJson } from './encode-reply.ts';
import { giveBackReplyMemory, lendReplyBytes, SMALL_BODY_BYTES_MAX } from './reply-memory.ts';

test('parts follow one another', () => {
  const row = Float32Array.of(0.5, -1);
  const body = writeJson((writer) => {
    writer.ascii('{"a":');
    writer.floats(row);
    writer.ascii(',"a key that is longer than thirty-two characters":');
    writer.base64(row);
    writer.ascii(',');
    writer.json('ы "');
    writer.ascii(':');
    writer.floats(new Float32Array(0));
    writer.ascii('}');
  });
  expect(new TextDecoder().decode(body)).toBe(
    '{"a":[0.5,-1],"a key that is longer than thirty-two characters":"AAAAPwAAgL8=",' +
      '"ы \\""' +
      ':[]}',
  );
});

test.each(['ы', `"${'x'.repeat(40)}é"`])(
  'source that is no ASCII is a fault of ours: %p',
  (source) => {
    expect(() => writeJson((writer) => writer.ascii(source))).toThrow(InvariantError);
  },
);

test('one document at a time, and the next one is whole', () => {
  const nested = () => writeJson((writer) => writer.json(writeJson(() => {}).length));
  expect(nested).toThrow(InvariantError);
  expect(new TextDecoder().decode(writeJson((writer) => writer.json(null)))).toBe('null');
});

/** Caught: the writer's memory was given back with a small document, and other replies got it. */
test('after a large document that was given back, a small one gives nobody the writer’s memory', () => {
  const write = (text: string) => writeJson((writer) => writer.json(text));
  giveBackReplyMemory(write('a'.repeat(2 * SMALL_BODY_BYTES_MAX)));
  const small = write('b');
  giveBackReplyMemory(small);
  const other = lendReplyBytes(2 * SMALL_BODY_BYTES_MAX, 0).fill(7);
  expect(other.buffer).not.toBe(small.buffer);
  write('c'.repeat(SMALL_BODY_BYTES_MAX / 2));
  expect(other.every((byte) => byte === 7)).toBe(true);
});
