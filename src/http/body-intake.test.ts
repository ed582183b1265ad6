import { describe, expect, test } from 'bun:test';
import { ServerError } from '../base/errors.ts';
import { VirtualClock } from '../testing/virtual-clock.ts';
import { createBodyIntake } from './body-intake.ts';

/**
 * Faults that were planted in the code by hand, and that this suite caught: a body that is counted
 * by what it declares and never given back; a deadline that each byte puts off; the newest given up
 * in place of the oldest; a body given up that had only just begun.
 */

const TIMEOUT_MS = 5000;

function stand(bodiesBytesMax = 1_000_000) {
  const clock = new VirtualClock();
  return { clock, intake: createBodyIntake({ clock, bodiesBytesMax, bodyTimeoutMs: TIMEOUT_MS }) };
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

/** What a decoder gets. */
const same = (body: Uint8Array): Uint8Array => body;

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
    expect((await intake.read(request, 100_000, same)).length).toBe(size);
  }
  expect([intake.byteCount, intake.bodyCount]).toEqual([0, 0]);
});

describe('too large', () => {
  test('by what it declares, unread', async () => {
    const { intake } = stand();
    expect(await outcomeOf(intake.read(slowRequest(101).request, 100, same))).toBe(
      'EMB_BODY_TOO_LARGE',
    );
  });

  test('by what comes, whatever it declares', async () => {
    const { intake } = stand();
    const slow = slowRequest();
    const outcome = outcomeOf(intake.read(slow.request, 100, same));
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
      const outcome = outcomeOf(intake.read(slow.request, 100_000, same));
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
    const outcomes = slow.map(({ request }) => outcomeOf(intake.read(request, 100_000, same)));
    await clock.advance(1500);
    const request = new Request('http://localhost/', { method: 'POST', body: 'a'.repeat(15_000) });
    request.headers.set('content-length', '15000');
    expect((await intake.read(request, 100_000, same)).length).toBe(15_000);
    expect(await Promise.all(outcomes.slice(0, 2))).toEqual(['EMB_QUEUE_FULL', 'EMB_QUEUE_FULL']);
    expect(intake.bodyCount).toBe(8);
    expect(intake.byteCount).toBe(80_000);
  });

  test('not to one when all have only just begun: that one is told to come back', async () => {
    const { intake } = stand(100_000);
    const slow = Array.from({ length: 10 }, () => slowRequest(10_000));
    for (const { request } of slow) void outcomeOf(intake.read(request, 100_000, same));
    const late = intake.read(slowRequest(10_000).request, 100_000, same);
    const error = await late.catch((reason: ServerError) => reason);
    expect(error).toBeInstanceOf(ServerError);
    expect(error).toMatchObject({ code: 'EMB_QUEUE_FULL', details: { retryAfterMs: 1000 } });
    expect(intake.byteCount).toBe(100_000);
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
