import { expect, test } from 'bun:test';
import { giveBackReplyMemory, lendReplyBytes, SMALL_BODY_BYTES_MAX } from './reply-memory.ts';

const LARGE = SMALL_BODY_BYTES_MAX + 1;

/** Caught, planted: memory stays in the pool when it is taken; it is given back twice. */
test('a large body is its holder’s alone until it is given back, and then used again once', () => {
  const bodies = [lendReplyBytes(LARGE, 0), lendReplyBytes(LARGE, 1)];
  expect(bodies[0].buffer).not.toBe(bodies[1].buffer);
  giveBackReplyMemory(bodies[0]);
  giveBackReplyMemory(bodies[0]);
  const next = [lendReplyBytes(LARGE, 0), lendReplyBytes(LARGE, 0)];
  expect(next[0].buffer).toBe(bodies[0].buffer);
  for (const other of [bodies[1], next[0]]) expect(next[1].buffer).not.toBe(other.buffer);
});

test('numbers stand at a multiple of four bytes, and the body has its length', () => {
  for (const bytes of [100, SMALL_BODY_BYTES_MAX, LARGE]) {
    for (const blockAt of [0, 1, 2, 3]) {
      const body = lendReplyBytes(bytes, blockAt);
      expect([body.length, (body.byteOffset + blockAt) % 4]).toEqual([bytes, 0]);
      giveBackReplyMemory(body);
    }
  }
});

/** Caught, planted: memory that is somebody else's is kept, too. */
test('small bodies and the memory of others are not kept', () => {
  const others = [new Uint8Array(1 << 20), lendReplyBytes(100, 0)];
  for (const body of others) giveBackReplyMemory(body);
  const next = lendReplyBytes(LARGE, 0);
  for (const { buffer } of others) expect(next.buffer).not.toBe(buffer);
});

/** Caught, planted: all is kept. */
test('what is kept is bounded', () => {
  const bodies = Array.from({ length: 5 }, () => lendReplyBytes(1 << 22, 0));
  const buffers = new Set(bodies.map(({ buffer }) => buffer));
  for (const body of bodies) giveBackReplyMemory(body);
  const again = bodies.map(() => lendReplyBytes(1 << 22, 0));
  expect(again.filter(({ buffer }) => buffers.has(buffer)).length).toBe(4);
});
