import { describe, expect, test } from 'bun:test';
import type { ServerError } from '../base/errors.ts';
import {
  BOOLEAN,
  integer,
  object,
  oneOf,
  optional,
  readerOf,
  STRING,
  schemaOf,
  someOf,
  withDefault,
} from './fields.ts';
import { TEXT, textList, texts } from './text-fields.ts';

/**
 * A table of fields. Faults that were planted in the code by hand, and that this suite caught: an
 * inner field without the name of its object, null taken for a value, a default that is not used.
 */

const TABLE = {
  query: texts(2),
  size: optional(integer({ min: 1, max: 8 }), 'How many.'),
  kind: withDefault(oneOf(['a', 'b']), 'a'),
  heads: optional(someOf(['x', 'y'])),
  inner: object({ text: TEXT, list: textList(2), note: optional(STRING) }),
  options: object({ cut: withDefault(BOOLEAN, true) }),
};

const read = readerOf(TABLE);
const RIGHT = { query: 'q', inner: { text: 't', list: ['l'] } };

describe('a body', () => {
  test('is read with its defaults; null is absent, and unknown fields are ignored', () => {
    const values = read({ ...RIGHT, size: null, other: 1 });
    expect(values).toEqual({
      query: { texts: ['q'], isSingle: true },
      size: undefined,
      kind: 'a',
      heads: undefined,
      inner: { text: 't', list: ['l'], note: undefined },
      options: { cut: true },
    });
  });

  // Planted and caught: inherited names taken for fields, the name of a field shown whole.
  test.each<[object, string, string, string]>([
    [{ qeury: 'q' }, 'qeury', 'query', 'There is no field "qeury": is "query" meant?'],
    [
      { normalize: true },
      'normalize',
      'query, size, kind, heads, inner, options',
      'There is no field "normalize": known are query, size, kind, heads, inner, options.',
    ],
    [
      { toString: 1 },
      'toString',
      'query, size, kind, heads, inner, options',
      'There is no field "toString": known are query, size, kind, heads, inner, options.',
    ],
    [
      { ['x'.repeat(1000)]: 1 },
      `${'x'.repeat(32)}…`,
      'query, size, kind, heads, inner, options',
      `There is no field "${'x'.repeat(32)}…": known are query, size, kind, heads, inner, options.`,
    ],
  ])('a field that is not in a strict table is refused: %j', (body, field, limit, message) => {
    const strict = readerOf(TABLE, 'refused');
    expect(strict(RIGHT)).toEqual(read(RIGHT));
    let thrown: unknown;
    try {
      strict({ ...RIGHT, ...body });
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({ code: 'EMB_FIELD_UNKNOWN', message, details: { field, limit } });
    expect(schemaOf(TABLE, 'refused')).toMatchObject({ additionalProperties: false });
  });

  test('a wrong word is told; a text in its place is not shown whole', () => {
    const told = 'kind must be one of "a", "b", not "c".';
    expect(() => read({ ...RIGHT, kind: 'c' })).toThrow(told);
    expect(() => read({ ...RIGHT, kind: 'c'.repeat(1000) })).toThrow(`not "${'c'.repeat(32)}…".`);
    expect(() => read({ ...RIGHT, heads: ['z'] })).toThrow('heads[0] must be one of "x", "y"');
  });

  test.each<[object | null, string, string]>([
    [null, 'EMB_FIELD_INVALID', 'body'],
    [[], 'EMB_FIELD_INVALID', 'body'],
    [{}, 'EMB_FIELD_MISSING', 'query'],
    [{ ...RIGHT, query: ['a', 'b', 'c'] }, 'EMB_TEXTS_TOO_MANY', 'query'],
    [{ ...RIGHT, query: [] }, 'EMB_TEXT_EMPTY', 'query'],
    [{ ...RIGHT, size: 9 }, 'EMB_FIELD_INVALID', 'size'],
    [{ ...RIGHT, kind: 'c' }, 'EMB_FIELD_INVALID', 'kind'],
    [{ ...RIGHT, heads: ['x', 'z'] }, 'EMB_FIELD_INVALID', 'heads[1]'],
    [{ ...RIGHT, inner: undefined }, 'EMB_FIELD_MISSING', 'inner.text'],
    [{ ...RIGHT, inner: { text: 't', list: 'l' } }, 'EMB_FIELD_INVALID', 'inner.list'],
    [{ ...RIGHT, options: { cut: 1 } }, 'EMB_FIELD_INVALID', 'options.cut'],
    [{ ...RIGHT, options: 1 }, 'EMB_FIELD_INVALID', 'options'],
  ])('%j is refused by name', (body, code, field) => {
    let error: ServerError | undefined;
    try {
      read(body);
    } catch (thrown) {
      error = thrown as ServerError;
    }
    expect([error?.code, error?.details.field]).toEqual([code, field] as never);
  });
});

test('the document says of each field what the check does', () => {
  expect(schemaOf(TABLE)).toMatchObject({
    required: ['query', 'inner'],
    properties: {
      size: { type: 'integer', minimum: 1, maximum: 8, nullable: true, description: 'How many.' },
      kind: { enum: ['a', 'b', null], nullable: true },
      inner: { required: ['text', 'list'] },
      options: { nullable: true },
    },
  });
});
