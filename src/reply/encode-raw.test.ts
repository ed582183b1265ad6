import { describe, expect, test } from 'bun:test';
import { denseOf, floatsIn, halvesIn, joined, singleOf } from '../testing/reply-fixtures.ts';
import { encodeRawReply } from './encode-raw.ts';

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
