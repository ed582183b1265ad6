import { describe, expect, test } from 'bun:test';
import { ServerError } from '../base/errors.ts';
import { VirtualClock } from '../testing/virtual-clock.ts';
import { createBodyIntake } from './body-intake.ts';

/**
 * Faults that were planted in the code by hand, and that this suite caught: a body that is counted
 * by what it declares and never given back; a deadline that each byte puts off; the newest given up
 * in place of the oldest; a body given up that had only just begun; a large body that is read
 * before there is room for it; one that waits behind a sender who falls silent; no collection.
 */

const TIMEOUT_MS = 5000;

function stand(bodiesBytesMax = 1_000_000) {
  const clock = new VirtualClock();
  const seen = { collections: 0 };
  const collectGarbage = (): void => void seen.collections++;
  const limits = { bodiesBytesMax, bodyTimeoutMs: TIMEOUT_MS };
  return { clock, seen, intake: createBodyIntake({ clock, ...limits, collectGarbage }) };
}

/** A request whose body comes when it is told to. */
function slowRequest(declared?: number) {
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  let isCancelled = false;
  const body = new ReadableStream<Uint8Array>({
    start(given) {
      controller = given;
    },
    cancel() {
      isCancelled = true;
    },
  });
  const headers = declared === undefined ? {} : { 'content-length': String(declared) };
  const request = new Request('http://localhost/', { method: 'POST', body, headers });
  return {
    request,
    send: (bytes: number) => controller?.enqueue(new Uint8Array(bytes).fill(97)),
    end: () => controller?.close(),
    get isCancelled() {
      return isCancelled;
    },
  };
}

/** A copy of what a decoder gets: it may not keep the bytes. */
const same = { decode: (body: Uint8Array) => new Uint8Array(body), costPerByte: 4 };

/** Limits of a body; its caller waits for a second. */
const upTo = (bodyBytesMax: number) => ({ bodyBytesMax, waitMs: () => 1000 });

const outcomeOf = (body: Promise<Uint8Array>): Promise<string | number> =>
  body.then(
    (bytes) => bytes.length,
    (error: ServerError) => error.code,
  );

test('a body is read whole, and takes nothing once it is', async () => {
  const { intake } = stand();
  for (const size of [0, 1, 70_000]) {
    const request = new Request('http://localhost/', { method: 'POST', body: 'a'.repeat(size) });
    request.headers.set('content-length', String(size));
    expect((await intake.read(request, upTo(100_000), same)).length).toBe(size);
  }
  expect([intake.byteCount, intake.bodyCount]).toEqual([0, 0]);
});

test.each([100, 70_000])(
  "of %d bytes: a fault of the decoder is ours, not its caller's",
  async (size) => {
    const { intake } = stand();
    const request = new Request('http://localhost/', { method: 'POST', body: 'a'.repeat(size) });
    request.headers.set('content-length', String(size));
    const broken = () => {
      throw new TypeError('broken');
    };
    const read = intake.read(request, upTo(100_000), { decode: broken, costPerByte: 4 });
    await expect(read).rejects.toThrow(TypeError);
    expect([intake.byteCount, intake.bodyCount]).toEqual([0, 0]);
  },
);

describe('too large', () => {
  test('by what it declares, unread', async () => {
    const { intake } = stand();
    expect(await outcomeOf(intake.read(slowRequest(101).request, upTo(100), same))).toBe(
      'EMB_BODY_TOO_LARGE',
    );
  });

  test('by what comes, whatever it declares', async () => {
    const { intake } = stand();
    const slow = slowRequest();
    const outcome = outcomeOf(intake.read(slow.request, upTo(100), same));
    slow.send(60);
    slow.send(60);
    expect(await outcome).toBe('EMB_BODY_TOO_LARGE');
    expect(intake.byteCount).toBe(0);
  });
});

describe('too slow', () => {
  test.each([undefined, 1000])(
    'declared %p: a byte a second does not put the end off',
    async (declared) => {
      const { clock, intake } = stand();
      const slow = slowRequest(declared);
      const outcome = outcomeOf(intake.read(slow.request, upTo(100_000), same));
      for (let second = 0; second < 7; second++) {
        if (!slow.isCancelled) slow.send(1);
        await clock.advance(1000);
      }
      expect(await outcome).toBe('EMB_BODY_TIMEOUT');
      expect([intake.byteCount, intake.bodyCount]).toEqual([0, 0]);
      await clock.advance(10_000);
      expect(clock.plannedCount).toBe(0);
    },
  );
});

describe('too many', () => {
  test('the oldest gives way to one that comes at once', async () => {
    const { clock, intake } = stand(100_000);
    const slow = Array.from({ length: 10 }, () => slowRequest(10_000));
    const outcomes = slow.map(({ request }) =>
      outcomeOf(intake.read(request, upTo(100_000), same)),
    );
    await clock.advance(1500);
    const request = new Request('http://localhost/', { method: 'POST', body: 'a'.repeat(15_000) });
    request.headers.set('content-length', '15000');
    expect((await intake.read(request, upTo(100_000), same)).length).toBe(15_000);
    expect(await Promise.all(outcomes.slice(0, 2))).toEqual(['EMB_QUEUE_FULL', 'EMB_QUEUE_FULL']);
    expect(intake.bodyCount).toBe(8);
    expect(intake.byteCount).toBe(80_000);
  });

  test('not to one when all have only just begun: that one is told to come back', async () => {
    const { intake } = stand(100_000);
    const slow = Array.from({ length: 10 }, () => slowRequest(10_000));
    for (const { request } of slow) void outcomeOf(intake.read(request, upTo(100_000), same));
    const late = intake.read(slowRequest(10_000).request, upTo(100_000), same);
    const error = await late.catch((reason: ServerError) => reason);
    expect(error).toBeInstanceOf(ServerError);
    expect(error).toMatchObject({ code: 'EMB_QUEUE_FULL', details: { retryAfterMs: 1000 } });
    expect(intake.byteCount).toBe(100_000);
  });
});

const MB = 1_000_000;

/** A large body that comes when it is told to, and what becomes of it. */
function large({ intake }: ReturnType<typeof stand>, declared: number | undefined, waitMs = 1000) {
  const slow = slowRequest(declared);
  const limits = { bodyBytesMax: 10 * MB, waitMs: () => waitMs };
  const outcome = outcomeOf(intake.read(slow.request, limits, same));
  return Object.assign(slow, { outcome, isRead: () => slow.request.body?.locked === true });
}

describe('large', () => {
  test('it counts as what decoding it takes, and the next waits unread until there is room', async () => {
    const rig = stand(48 * MB);
    const [first, second, third] = [large(rig, 10 * MB), large(rig, 10 * MB), large(rig, 2 * MB)];
    await rig.clock.advance(0);
    expect(rig.intake.byteCount).toBe(40 * MB);
    // The third would fit beside neither; they enter in the order in which they came.
    expect([first, second, third].map(({ isRead }) => isRead())).toEqual([true, false, false]);
    first.send(10 * MB);
    first.end();
    expect(await first.outcome).toBe(10 * MB);
    await rig.clock.advance(0);
    expect([second, third].map(({ isRead }) => isRead())).toEqual([true, false]);
    second.send(10 * MB);
    second.end();
    expect(await second.outcome).toBe(10 * MB);
    third.send(2 * MB);
    third.end();
    expect(await third.outcome).toBe(2 * MB);
    expect([rig.intake.byteCount, rig.intake.bodyCount]).toEqual([0, 0]);
  });

  test('small ones find room beside it, and need not wait behind those that do', async () => {
    const rig = stand(48 * MB);
    const two = [large(rig, 10 * MB), large(rig, 10 * MB)];
    const request = new Request('http://localhost/', { method: 'POST', body: 'a'.repeat(60_000) });
    request.headers.set('content-length', '60000');
    expect(await outcomeOf(rig.intake.read(request, upTo(100_000), same))).toBe(60_000);
    expect(two.map(({ isRead }) => isRead())).toEqual([true, false]);
  });

  test.each([
    ['after the wait that the caller allows', 500, 500],
    ['at once when the caller does not wait', 0, 0],
  ])('without room it is refused %s', async (_when, waitMs, advancedMs) => {
    const rig = stand(48 * MB);
    large(rig, 10 * MB);
    const late = large(rig, 10 * MB, waitMs);
    await rig.clock.advance(advancedMs);
    expect(await late.outcome).toBe('EMB_QUEUE_FULL');
    expect([late.isRead(), rig.intake.bodyCount]).toEqual([false, 1]);
  });

  test('at most a quarter of the budget is taken by those that wait', async () => {
    const rig = stand(48 * MB);
    const all = Array.from({ length: 14 }, () => large(rig, 10 * MB));
    expect(await all[12].outcome).toBe('EMB_QUEUE_FULL');
    expect(await all[13].outcome).toBe('EMB_QUEUE_FULL');
    expect([rig.intake.bodyCount, rig.intake.waitingCount]).toEqual([12, 11]);
  });

  test('a sender who falls silent loses the room, and then the body, to the next', async () => {
    const rig = stand(48 * MB);
    const silent = large(rig, 10 * MB);
    silent.send(3 * MB);
    const next = large(rig, 10 * MB, TIMEOUT_MS);
    // 3 of 10 MB are enough for 1.5 s of 5.
    await rig.clock.advance(1000);
    expect(next.isRead()).toBe(false);
    await rig.clock.advance(1000);
    expect(next.isRead()).toBe(true);
    next.send(10 * MB);
    next.end();
    expect(await next.outcome).toBe(10 * MB);
  });

  test('a caller that hangs up while it waits leaves its place', async () => {
    const rig = stand(48 * MB);
    const first = large(rig, 10 * MB);
    const leaving = new AbortController();
    const slow = slowRequest(10 * MB);
    const request = new Request(slow.request, { signal: leaving.signal });
    request.headers.set('content-length', String(10 * MB));
    const left = outcomeOf(rig.intake.read(request, upTo(10 * MB), same));
    const next = large(rig, 10 * MB, TIMEOUT_MS);
    leaving.abort();
    expect(await left).toBe('EMB_REQUEST_ABORTED');
    first.send(10 * MB);
    first.end();
    expect(await first.outcome).toBe(10 * MB);
    await rig.clock.advance(0);
    expect(next.isRead()).toBe(true);
  });

  test.each([
    ['of unknown length', {}],
    ['packed', { 'content-encoding': 'gzip', 'content-length': '9000' }],
  ])('%s it waits once it is known to be large', async (_what, headers) => {
    const rig = stand(48 * MB);
    const first = large(rig, 10 * MB);
    const plain = new Uint8Array(5 * MB).fill(97);
    const bodyOf = () =>
      'content-encoding' in headers ? Bun.gzipSync(plain) : new Blob([plain]).stream();
    const request = () =>
      new Request('http://localhost/', { method: 'POST', body: bodyOf(), headers });
    const outcome = outcomeOf(rig.intake.read(request(), upTo(10 * MB), same));
    let isSettled = false;
    void outcome.then(() => {
      isSettled = true;
    });
    // As long as the same takes where there is room, several times over.
    for (let turn = 0; turn < 5; turn++) {
      await stand(48 * MB).intake.read(request(), upTo(10 * MB), same);
    }
    expect(isSettled).toBe(false);
    first.send(10 * MB);
    first.end();
    expect(await outcome).toBe(5 * MB);
    expect([rig.intake.byteCount, rig.intake.bodyCount]).toEqual([0, 0]);
  });

  test('what decoding leaves is collected, and once more when the requests are done', async () => {
    const rig = stand(48 * MB);
    for (let index = 0; index < 4; index++) {
      const body = large(rig, 5 * MB);
      body.send(5 * MB);
      body.end();
      expect(await body.outcome).toBe(5 * MB);
    }
    expect(rig.seen.collections).toBe(1);
    await rig.clock.advance(10_000);
    expect(rig.seen.collections).toBe(2);
    expect(rig.clock.plannedCount).toBe(0);
  });
});

describe('a refusal', () => {
  const refused = (): Response => Response.json({ error: 'told' }, { status: 413 });

  test('whose body is whole in a moment leaves the connection open', async () => {
    const { intake } = stand();
    const request = new Request('http://localhost/', { method: 'POST', body: 'a'.repeat(70_000) });
    const reply = await intake.refuse(request, refused());
    expect([reply.status, reply.headers.get('connection')]).toEqual([413, null]);
    expect(request.bodyUsed).toBe(true);
  });

  test.each([
    ['a sender that goes on', 'end', 300],
    ['one that falls silent', 'silence', 5100],
    ['one that never ends', 'time', TIMEOUT_MS + 1100],
    ['one that sends too much', 'bytes', 1000],
  ])('is told at once to %s, then read on until the %s', async (_who, bound, untilMs) => {
    const { clock, intake } = stand(100_000);
    const slow = slowRequest();
    const replied = intake.refuse(slow.request, refused());
    slow.send(10);
    await clock.advance(100);
    const reply = await replied;
    expect([reply.status, reply.headers.get('connection')]).toEqual([413, 'close']);
    const reader = (reply.body as ReadableStream<Uint8Array>).getReader();
    const { value } = await reader.read();
    expect(new TextDecoder().decode(value)).toBe('{"error":"told"}');
    let isEnded = false;
    const ended = reader.read().then(({ done }) => {
      isEnded = done;
    });
    if (bound === 'bytes') slow.send(100_001);
    if (bound === 'end') slow.end();
    for (let ms = 100; ms < untilMs; ms += 500) {
      if (bound === 'time' && ms < TIMEOUT_MS) slow.send(10);
      await clock.advance(500);
    }
    await ended;
    expect(isEnded).toBe(true);
    expect(slow.isCancelled).toBe(bound !== 'end');
  });
});
