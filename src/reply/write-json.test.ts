import { expect, test } from 'bun:test';
import { InvariantError } from '../base/errors.ts';
import { writeJson } from './encode-reply.ts';

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
