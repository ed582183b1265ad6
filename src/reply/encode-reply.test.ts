import { describe, expect, test } from 'bun:test';
import { InvariantError, ServerError } from '../base/errors.ts';
import {
  denseOf,
  floatsIn,
  halvesIn,
  joined,
  replyOf,
  rowsOf,
  singleOf,
  vectorOf,
} from '../testing/reply-fixtures.ts';
import { checkFormatCarries, encodeRawReply, encodeReply } from './encode-reply.ts';
import {
  type EncodeReply,
  JSON_BASE64_FORMAT,
  JSON_FORMAT,
  type ReplyFormat,
} from './reply-content.ts';

const msgpack: ReplyFormat = { kind: 'msgpack', layout: 'plain', dtype: 'float32' };
const numpy: ReplyFormat = { kind: 'msgpack', layout: 'numpy', dtype: 'float32' };
const raw: ReplyFormat = { kind: 'raw', dtype: 'float32' };
const rawHalf: ReplyFormat = { kind: 'raw', dtype: 'float16' };

const formats: readonly ReplyFormat[] = [
  JSON_FORMAT,
  JSON_BASE64_FORMAT,
  msgpack,
  numpy,
  raw,
  rawHalf,
];

test.each(formats)('a reply whose parts do not fit is refused: %p', (format) => {
  const reply = denseOf(2, 3);
  const wrong: readonly Partial<EncodeReply>[] = [
    { single: true },
    { rows: [vectorOf(3)] },
    { rows: [vectorOf(3), vectorOf(4)] },
    { tokenCounts: [1] },
    { truncated: [false] },
    { dimension: 4 },
    { sparse: [] },
    { sparse: Array(2).fill({ indices: Int32Array.of(1), values: new Float32Array(0) }) },
    { multiVectors: Array(2).fill({ tokenCount: 2, data: new Float32Array(3) }) },
  ];
  for (const part of wrong) {
    expect(() => encodeReply({ ...reply, ...part }, format)).toThrow(InvariantError);
  }
});

test.each(formats)('the rows are left as they were: %p', (format) => {
  const reply = denseOf(3, 7);
  const before = rowsOf(reply);
  const { body } = encodeReply(reply, format);
  body.fill(0);
  expect(rowsOf(reply)).toEqual(before);
});

test.each([
  [JSON_FORMAT, 'application/json'],
  [numpy, 'application/msgpack'],
  [raw, 'application/octet-stream'],
])('each format has its codec: %p', (format, contentType) => {
  expect(encodeReply(singleOf(4), format).contentType).toBe(contentType);
});

test('raw bytes carry nothing but the dense head', () => {
  const heads = { dense: true, sparse: false, multiVectors: false };
  checkFormatCarries(raw, heads);
  checkFormatCarries(msgpack, { ...heads, sparse: true });
  for (const other of [{ dense: false }, { sparse: true }, { multiVectors: true }]) {
    expect(() => checkFormatCarries(raw, { ...heads, ...other })).toThrow(ServerError);
  }
  expect(() => encodeReply(replyOf(2, 2), raw)).toThrow('dense vectors only');
});

describe('encodeRawReply', () => {
  test.each([1, 2, 5])('%p rows', (textCount) => {
    const reply = denseOf(textCount, 6);
    const { body, contentType, headers } = encodeRawReply(reply, 'float32');
    expect(floatsIn(body)).toEqual(joined(reply.rows));
    expect(contentType).toBe('application/octet-stream');
    expect(headers).toEqual({
      'x-embedding-shape': `${textCount},6`,
      'x-embedding-dtype': 'float32',
      'x-model': 'BAAI/bge-m3',
      'x-tokens': reply.tokenCounts.join(','),
      'x-truncated': ['0', '1', '0', '0', '1'].slice(0, textCount).join(','),
    });
  });

  test('float16', () => {
    const reply = denseOf(3, 5);
    const { body, headers } = encodeRawReply(reply, 'float16');
    expect(halvesIn(body)).toEqual(Float16Array.from(joined(reply.rows)));
    expect(headers?.['x-embedding-dtype']).toBe('float16');
  });

  test('lists stay out of the headers of a large reply', () => {
    expect(Object.keys(encodeRawReply(denseOf(512, 1), 'float32').headers ?? {})).toContain(
      'x-tokens',
    );
    expect(Object.keys(encodeRawReply(denseOf(513, 1), 'float32').headers ?? {})).toEqual([
      'x-embedding-shape',
      'x-embedding-dtype',
      'x-model',
    ]);
  });

  test('a header carries any name', () => {
    const model = 'модель 100%\n\ud800';
    const name = encodeRawReply({ ...singleOf(1), model }, 'float32').headers?.['x-model'] ?? '';
    expect(new Headers({ name }).get('name')).toBe(name);
    expect(decodeURIComponent(name)).toBe('модель 100%\n\ufffd');
  });
});

/**
 * The body is lent until the next reply, and `vectorReply` makes a Response of it at once. This
 * rests on the runtime, which must copy a body of any size when the Response is made.
 */
test.each([
  [JSON_FORMAT, 1],
  [msgpack, 1],
  [msgpack, 300],
  [raw, 300],
  [JSON_FORMAT, 300],
  [JSON_FORMAT, 3000],
])('%p: a Response of %d texts keeps its bytes while others are encoded', async (format, count) => {
  const reply = denseOf(count, 512);
  const first = encodeReply(reply, format).body;
  const expected = first.slice();
  const response = new Response(first);
  encodeReply(denseOf(count, 512), format);
  expect(Buffer.compare(await response.bytes(), expected)).toBe(0);
});
