import { pack } from 'msgpackr';
import {
  type BadRow,
  JSON_TYPE,
  LIMITS,
  MSGPACK_TYPE,
  msgpackQuery,
  post,
  postMsgpack,
  SECRET,
} from './bad-row.ts';

/** Bodies that cannot be read. */
export const BAD_BODIES: readonly BadRow[] = [
  ['no body', 'EMB_BODY_MALFORMED', 'body', ['byte 0'], { method: 'POST', headers: JSON_TYPE }],
  ['JSON that ends early', 'EMB_BODY_MALFORMED', 'body', ['byte 9'], post('{"query":')],
  ['no JSON at all', 'EMB_BODY_MALFORMED', 'body', ['byte 0'], post(SECRET)],
  ['two JSON values', 'EMB_BODY_MALFORMED', 'body', ['byte 3'], post('{} {}')],
  [
    'JSON in broken UTF-8',
    'EMB_BODY_MALFORMED',
    'body',
    ['byte 10', 'UTF-8'],
    post(Uint8Array.from([...Buffer.from('{"query":"'), 0xff, ...Buffer.from('"}')])),
  ],
  ['JSON null', 'EMB_FIELD_INVALID', 'body', ['object', 'null'], post('null')],
  ['a JSON string', 'EMB_FIELD_INVALID', 'body', ['object', 'a string'], post(`"${SECRET}"`)],
  ['a JSON array', 'EMB_FIELD_INVALID', 'body', ['object', 'an array'], post(`["${SECRET}"]`)],
  ['no msgpack', 'EMB_BODY_MALFORMED', 'body', ['byte'], postMsgpack()],
  ['msgpack that ends early', 'EMB_BODY_MALFORMED', 'body', ['byte 1'], postMsgpack(0x81)],
  ['a type that msgpack lacks', 'EMB_BODY_MALFORMED', 'body', ['byte 0'], postMsgpack(0xc1)],
  [
    'bytes after the msgpack',
    'EMB_BODY_MALFORMED',
    'body',
    ['byte'],
    post(Uint8Array.from([...pack({ query: SECRET }), 0]), MSGPACK_TYPE),
  ],
  [
    'msgpack that promises 4 billion values',
    'EMB_BODY_MALFORMED',
    'body',
    ['byte'],
    postMsgpack(0xdd, 0xff, 0xff, 0xff, 0xff),
  ],
  [
    'a surrogate in msgpack',
    'EMB_BODY_MALFORMED',
    'body',
    ['UTF-8'],
    msgpackQuery(0xed, 0xa0, 0x80),
  ],
  ['msgpack nil', 'EMB_FIELD_INVALID', 'body', ['object', 'null'], postMsgpack(0xc0)],
  [
    'msgpack with binary for a text',
    'EMB_FIELD_INVALID',
    'query',
    ['binary'],
    post(Uint8Array.from(pack({ query: new Uint8Array(3) })), MSGPACK_TYPE),
  ],
  [
    'a body over the limit',
    'EMB_BODY_TOO_LARGE',
    'body',
    [String(LIMITS.bodyBytes)],
    post(' '.repeat(LIMITS.bodyBytes + 1)),
  ],
  [
    'a body of a hundred times the limit',
    'EMB_BODY_TOO_LARGE',
    'body',
    [String(LIMITS.bodyBytes), String(LIMITS.bodyBytes * 100)],
    post(' '.repeat(LIMITS.bodyBytes * 100)),
  ],
];

/** Headers that ask for what there is not. */
export const BAD_HEADERS: readonly BadRow[] = [
  [
    'a form',
    'EMB_CONTENT_TYPE_UNSUPPORTED',
    'content-type',
    ['x-www-form-urlencoded', 'json'],
    {
      ...post(`query=${SECRET}`, { 'content-type': 'application/x-www-form-urlencoded' }),
    },
  ],
  [
    'plain text',
    'EMB_CONTENT_TYPE_UNSUPPORTED',
    'content-type',
    ['text/plain'],
    {
      ...post(SECRET, { 'content-type': 'text/plain' }),
    },
  ],
  [
    'another charset',
    'EMB_CONTENT_TYPE_UNSUPPORTED',
    'content-type',
    ['windows-1251'],
    {
      ...post('{"query":"x"}', { 'content-type': 'application/json; charset=windows-1251' }),
    },
  ],
  [
    'an unknown Accept',
    'EMB_ACCEPT_UNSUPPORTED',
    'accept',
    ['text/html', 'application/json'],
    {
      ...post(`{"query":"${SECRET}"}`, { ...JSON_TYPE, accept: 'text/html' }),
    },
  ],
  [
    'an unknown msgpack layout',
    'EMB_ACCEPT_UNSUPPORTED',
    'accept',
    ['layout=cbor'],
    {
      ...post(`{"query":"${SECRET}"}`, {
        ...JSON_TYPE,
        accept: 'application/msgpack; layout=cbor',
      }),
    },
  ],
  [
    'everything refused',
    'EMB_ACCEPT_UNSUPPORTED',
    'accept',
    ['application/json'],
    {
      ...post(`{"query":"${SECRET}"}`, { ...JSON_TYPE, accept: '*/*;q=0' }),
    },
  ],
];
