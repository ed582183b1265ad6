import { expect, test } from 'bun:test';
import { ServerError } from '../base/errors.ts';
import { createLog } from '../base/log.ts';
import { VirtualClock } from '../testing/virtual-clock.ts';
import { createReplyBudget } from './reply-budget.ts';

/**
 * Faults that were planted in the code by hand, and that this suite caught: replies not counted, as
 * it was; what was given up or left counted for ever; a reply given up that is read fast enough, or
 * that is young; the largest refused by an empty budget; small ones, or all, made streams; those
 * that are left to the runtime without bound; pieces in the wrong order; those below 256 kB not
 * counted, as it was; a piece that the runtime has counted as gone, as it was.
 */

const MB = 1_048_576;
const TIMEOUT_MS = 10_000;

/** @param pendingCount so many that each large reply is counted. */
function stand(repliesBytesMax = 10 * MB, pendingCount = () => 1000) {
  const clock = new VirtualClock();
  const limits = { repliesBytesMax, bodyTimeoutMs: TIMEOUT_MS, pendingCount };
  const log = createLog({ level: 'error', write: () => undefined });
  const budget = createReplyBudget({ clock, ...limits, log });
  return { clock, budget };
}

function bytesOf(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += 1009) bytes[at] = at % 251;
  return bytes;
}

/** A caller with a reply of so many bytes, who has read nothing yet. */
function send({ budget }: ReturnType<typeof stand>, length: number) {
  const body = budget.bodyOf(bytesOf(length), 'request');
  if (body instanceof Uint8Array) throw new Error('it is sent whole');
  const reader = body.getReader();
  const read = async (): Promise<number> => (await reader.read()).value?.length ?? 0;
  return { reader, read };
}

const codeOf = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    return error instanceof ServerError ? error.code : String(error);
  }
  return 'none';
};

test('a large reply comes whole, piece by piece, and counts until it is read', async () => {
  const { budget } = stand();
  const bytes = bytesOf(3 * MB + 5);
  const body = budget.bodyOf(bytes, 'request');
  expect(budget.byteCount).toBe(bytes.length);
  expect(await new Response(body).bytes()).toEqual(bytes);
  expect(budget.byteCount).toBe(0);
});

test('a small one is the bytes themselves, and does not count', () => {
  const { budget } = stand(1000);
  const bytes = bytesOf(15_000);
  expect(budget.bodyOf(bytes, 'request') === bytes).toBe(true);
  expect([budget.byteCount, codeOf(() => budget.check(15_000))]).toEqual([0, 'none']);
});

test('many of a middle size count too, and those who do not read give way', async () => {
  const made = stand();
  const stalled = Array.from({ length: 52 }, () => send(made, 200_000));
  for (const one of stalled) await one.read();
  // What the runtime was handed lies there until the system takes it.
  expect(made.budget.byteCount).toBe(52 * 200_000);
  expect(codeOf(() => send(made, 200_000))).toBe('EMB_QUEUE_FULL');
  await made.clock.advance(TIMEOUT_MS / 8 + 1);
  expect(codeOf(() => send(made, 200_000))).toBe('none');
  expect(made.budget.byteCount).toBe(52 * 200_000);
});

test('those of a middle size have their share of what is left to the runtime', () => {
  let pendingCount = 0;
  const { budget } = stand(16 * MB, () => pendingCount);
  const isLeft = (length: number): boolean => {
    pendingCount++;
    budget.workingCount = 1;
    return budget.bodyOf(bytesOf(length), 'request') instanceof Uint8Array;
  };
  // One large reply makes no stream of all others.
  expect(isLeft(4 * MB)).toBe(true);
  expect(Array.from({ length: 40 }, () => isLeft(100_000))).not.toContain(false);
  expect(isLeft(100_000)).toBe(false);
});

test('while few wait to be read, they are left to the runtime', () => {
  let pendingCount = 0;
  const { budget } = stand(16 * MB, () => pendingCount);
  const kinds = (count: number): boolean[] =>
    Array.from({ length: count }, () => {
      budget.workingCount = 5;
      pendingCount++;
      return budget.bodyOf(bytesOf(MB), 'request') instanceof Uint8Array;
    });
  pendingCount = 4;
  // A quarter of the bound.
  expect(kinds(5)).toEqual([true, true, true, true, false]);
  // All were read but the one that is counted: a larger one has its place.
  pendingCount = 6;
  expect(budget.bodyOf(bytesOf(4 * MB), 'request')).toBeInstanceOf(Uint8Array);
  pendingCount = 7;
  expect(kinds(1)).toEqual([false]);
});

test('beyond the bound who comes is told to come back, before the work and after it', async () => {
  const made = stand();
  const one = send(made, 6 * MB);
  expect(codeOf(() => made.budget.check(5 * MB))).toBe('EMB_QUEUE_FULL');
  expect(codeOf(() => send(made, 5 * MB))).toBe('EMB_QUEUE_FULL');
  for (let left = 6 * MB; left > 0; ) left -= await one.read();
  expect(codeOf(() => send(made, 5 * MB))).toBe('none');
});

test('the largest is let into an empty budget', () => {
  const made = stand(MB);
  expect(codeOf(() => send(made, 5 * MB))).toBe('none');
  expect(codeOf(() => send(made, MB))).toBe('EMB_QUEUE_FULL');
});

test('who does not read gives way, the oldest first, and no more than needed', async () => {
  const made = stand();
  const slow = [send(made, 4 * MB), send(made, 4 * MB)];
  expect(codeOf(() => send(made, 4 * MB))).toBe('EMB_QUEUE_FULL');
  await made.clock.advance(1001);
  const next = send(made, 4 * MB);
  await expect(slow[0].read()).rejects.toBeUndefined();
  expect([await slow[1].read(), await next.read()]).toEqual([262_144, 262_144]);
});

test('who reads fast enough to be through in time keeps its reply', async () => {
  const made = stand();
  const steady = send(made, 8 * MB);
  for (let ms = 0; ms < 5000; ms += 1000) {
    await made.clock.advance(1000);
    for (let count = 0; count < 4; count++) await steady.read();
    expect(codeOf(() => made.budget.check(8 * MB))).toBe('EMB_QUEUE_FULL');
  }
  // It stops: after a while it would no longer be through in time.
  await made.clock.advance(5000);
  expect(codeOf(() => made.budget.check(8 * MB))).toBe('none');
});

test('who hangs up counts no more', async () => {
  const made = stand();
  await send(made, 8 * MB).reader.cancel();
  expect(made.budget.byteCount).toBe(0);
});
