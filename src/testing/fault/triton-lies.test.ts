import { describe, expect, test } from 'bun:test';
import type { FakeReply } from '../fake-triton-wire.ts';
import { DIMENSION, RIGHT, TEXTS, tritonUnderFault } from './triton-under-fault.ts';

/**
 * The Triton backend against replies of status 200 that are not what they say.
 *
 * Faults that were planted in the code by hand, and that this suite caught: byte counts, shapes,
 * datatypes or names that were believed; bytes left over; rows read at an odd offset.
 */

const under = tritonUnderFault();

describe('a reply that lies', () => {
  const lies: readonly (readonly [string, (reply: FakeReply) => void])[] = [
    ['no bytes, right shape', (reply) => empty(reply)],
    ['no bytes, no rows', (reply) => Object.assign(empty(reply), { shape: [0, DIMENSION] })],
    ['fewer bytes than its shape', (reply) => cut(reply, 4)],
    ['more bytes than its shape', (reply) => cut(reply, -4)],
    [
      'one row too few',
      (reply) => Object.assign(cut(reply, DIMENSION * 4), { shape: [1, DIMENSION] }),
    ],
    ['rows of another dimension', (reply) => Object.assign(reply, { shape: [4, DIMENSION / 2] })],
    [
      'rows of half the dimension, to the byte',
      (reply) =>
        Object.assign(cut(reply, (TEXTS.length * DIMENSION * 4) / 2), {
          shape: [TEXTS.length, DIMENSION / 2],
        }),
    ],
    ['a flat shape', (reply) => Object.assign(reply, { shape: [TEXTS.length * DIMENSION] })],
    ['no shape', (reply) => Object.assign(reply, { shape: undefined })],
    ['a shape of words', (reply) => Object.assign(reply, { shape: ['2', 'x'] })],
    ['another datatype', (reply) => Object.assign(reply, { datatype: 'FP16' })],
    ['another output', (reply) => Object.assign(reply, { name: 'last_hidden_state' })],
    [
      'a size that is not in the body',
      (reply) => Object.assign(reply, { binaryDataSize: 1 << 20 }),
    ],
    ['a negative size', (reply) => Object.assign(reply, { binaryDataSize: -4 })],
    ['bytes that belong to no output', (reply) => trail(reply)],
    ['no header length', (reply) => Object.assign(reply, { headerLength: undefined })],
    ['a header length past the body', (reply) => Object.assign(reply, { headerLength: 1 << 20 })],
    ['a header length of zero', (reply) => Object.assign(reply, { headerLength: 0 })],
    ['a header length that cuts the JSON', (reply) => Object.assign(reply, { headerLength: 9 })],
    ['a header that is no JSON', (reply) => Object.assign(reply, { headerText: '{"outputs":' })],
    ['a header of another kind', (reply) => Object.assign(reply, { headerText: 'null' })],
    ['outputs that are no list', (reply) => Object.assign(reply, { headerText: '{"outputs":{}}' })],
    [
      'an output that is null',
      (reply) => Object.assign(reply, { headerText: '{"outputs":[null]}' }),
    ],
  ];

  test.each(lies)('%s: EMB_OUTPUT_INVALID, and the next batch is right', async (_name, change) => {
    under.fake.behaveOnce({ kind: 'lie', change });
    const error = await under.infer();
    expect(error).toMatchObject({ code: 'EMB_OUTPUT_INVALID', status: 502 });
    expect(under.batchRequests()).toHaveLength(1);
    expect(under.backend.state().isReady).toBe(true);
    expect(await under.infer()).toEqual(RIGHT);
  });

  test('one that is compressed all the same never gives a wrong row', async () => {
    under.fake.behaveOnce({ kind: 'gzip' });
    expect(await under.infer()).toEqual(RIGHT);
  });

  test('one whose header has any length is read: rows need not lie at a multiple of four', async () => {
    for (const spaces of [0, 1, 2, 3]) {
      const pad = (reply: FakeReply): void => {
        const parameters = { binary_data_size: reply.binaryDataSize };
        const { name, datatype, shape } = reply;
        const header = JSON.stringify({ outputs: [{ name, datatype, shape, parameters }] });
        reply.headerText = header + ' '.repeat(spaces);
      };
      under.fake.behaveOnce({ kind: 'lie', change: pad });
      expect(await under.infer()).toEqual(RIGHT);
    }
  });
});

function empty(reply: FakeReply): FakeReply {
  return Object.assign(reply, { data: Buffer.alloc(0), binaryDataSize: 0 });
}

/** Takes bytes off the end, or adds zeros; the size that the header names goes along. */
function cut(reply: FakeReply, bytes: number): FakeReply {
  const kept = reply.data.subarray(0, reply.data.length - Math.max(0, bytes));
  const data = Buffer.concat([kept, Buffer.alloc(Math.max(0, -bytes))]);
  return Object.assign(reply, { data, binaryDataSize: data.length });
}

function trail(reply: FakeReply): FakeReply {
  return Object.assign(reply, { data: Buffer.concat([reply.data, Buffer.alloc(8)]) });
}
