import { describe, expect, test } from 'bun:test';
import { ServerError } from '../base/errors.ts';
import { JSON_BASE64_FORMAT, JSON_FORMAT, type ReplyFormat } from '../reply/reply-content.ts';
import { negotiateFormat } from './request.ts';

const msgpack: ReplyFormat = { kind: 'msgpack', layout: 'plain', dtype: 'float32' };
const numpy: ReplyFormat = { kind: 'msgpack', layout: 'numpy', dtype: 'float32' };
const numpyHalf: ReplyFormat = { kind: 'msgpack', layout: 'numpy', dtype: 'float16' };
const raw: ReplyFormat = { kind: 'raw', dtype: 'float32' };
const rawHalf: ReplyFormat = { kind: 'raw', dtype: 'float16' };

describe('negotiateFormat', () => {
  test.each([
    [null, JSON_FORMAT],
    ['', JSON_FORMAT],
    ['*/*', JSON_FORMAT],
    ['application/json', JSON_FORMAT],
    ['Application/JSON', JSON_FORMAT],
    ['application/json; charset=utf-8', JSON_FORMAT],
    ['application/json; encoding=base64', JSON_BASE64_FORMAT],
    ['application/json, text/plain, */*', JSON_FORMAT],
    ['application/*', JSON_FORMAT],
    ['application/msgpack', msgpack],
    ['application/x-msgpack', msgpack],
    ['application/vnd.msgpack', msgpack],
    ['application/msgpack; layout=plain', msgpack],
    ['application/msgpack; layout=numpy', numpy],
    ['application/msgpack;layout=numpy', numpy],
    ['application/msgpack ; LAYOUT="numpy" ; q=0.5', numpy],
    ['application/msgpack; layout=numpy; dtype=float16', numpyHalf],
    ['application/octet-stream', raw],
    ['application/octet-stream; dtype=float16', rawHalf],
    // What browsers send.
    ['text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', JSON_FORMAT],
  ])('%p', (accept, format) => {
    expect(negotiateFormat(accept)).toEqual(format);
  });

  test.each([
    ['the higher q', 'application/json;q=0.5, application/msgpack;q=0.9', msgpack],
    ['q absent is 1', 'application/json;q=0.9, application/msgpack', msgpack],
    ['among equals the first', 'application/msgpack, application/json', msgpack],
    ['among equals the more specific', '*/*, application/msgpack', msgpack],
    ['a range over all', '*/*, application/*;q=0.3', JSON_FORMAT],
    ['q=0 refuses', 'application/msgpack;q=0, application/octet-stream;q=0.001', raw],
    ['a wildcard passes over what is refused', 'application/json;q=0, */*', msgpack],
    [
      'and over the next',
      'application/json;q=0.0, application/msgpack;q=0.000, application/*',
      raw,
    ],
    ['a wildcard is not for what is named', 'application/json;q=0.1, */*', msgpack],
    ['nor with a q of its own', 'application/x-msgpack;q=0.2, application/json;q=0.1, */*', raw],
    ['nor for a named one that is better', '*/*;q=0.5, application/octet-stream;q=0.6', raw],
    ['the narrower wildcard counts', 'application/json, application/*;q=0.5, */*', JSON_FORMAT],
    ['also where it refuses', 'application/msgpack;q=0.1, application/*;q=0, */*', msgpack],
    ['parameters name another format', 'application/json;encoding=base64;q=0, */*', JSON_FORMAT],
    ['what is unknown is passed over', 'text/csv, image/*, application/octet-stream;q=0.1', raw],
    [
      'an unknown layout is no format',
      'application/msgpack; layout=rows, application/json;q=0.1',
      JSON_FORMAT,
    ],
    [
      'a comma in quotes divides nothing',
      'text/x; a="\\", application/json, b", application/msgpack',
      msgpack,
    ],
    ['empty elements are nothing', ' , application/msgpack,,', msgpack],
    [
      'a q that is no weight is absent',
      'application/json;q=0.5, application/msgpack;q=high',
      msgpack,
    ],
  ])('%s: %p', (_, accept, format) => {
    expect(negotiateFormat(accept)).toEqual(format);
  });

  test.each([
    ['text/csv'],
    ['application/json;q=0'],
    ['*/*;q=0'],
    ['application/*;q=0, */*'],
    ['application/json;q=0, application/msgpack;q=0, application/octet-stream;q=0, */*'],
    ['application/msgpack; layout=rows'],
    ['application/octet-stream; dtype=bfloat16'],
    [','],
  ])('refuses %p', (accept) => {
    const error = errorOf(() => negotiateFormat(accept));
    expect(error.code).toBe('EMB_ACCEPT_UNSUPPORTED');
    expect(error.details).toEqual({ field: 'accept', value: accept });
    expect(error.message).toContain('application/msgpack');
    expect(error.message).toContain(accept);
  });

  test('shows no more of a long header than fits a message', () => {
    const error = errorOf(() => negotiateFormat(`text/${'x'.repeat(10_000)}`));
    expect(error.message.length).toBeLessThan(400);
  });
});

function errorOf(action: () => unknown): ServerError {
  try {
    action();
  } catch (error) {
    if (error instanceof ServerError) return error;
  }
  throw new Error('No ServerError was thrown.');
}
