import { expect, test } from 'bun:test';
import { Packr } from 'msgpackr';
import { VirtualClock } from '../../testing/virtual-clock.ts';
import { ServerFleet } from './server-fleet.ts';

const REPLY = new Packr({ useRecords: false }).pack({
  model: 'm',
  dim: 1,
  tokens: [1],
  truncated: [false],
  embeddings: { dtype: '<f4', shape: [1, 1], data: new Uint8Array(4) },
});

/**
 * What is left of a server that was killed: connections that break, a socket at which nobody
 * answers, or none. Caught, as it was: of one that was killed while nothing was asked of it,
 * nobody brought it back, and the job ended after ten minutes.
 */
test.each(['ECONNRESET', 'ECONNREFUSED', 'ENOENT'])(
  'a server is brought back whatever is left of it: %s',
  async (code) => {
    const clock = new VirtualClock();
    let isThere = false;
    let revivedCount = 0;
    const server = {
      url: 'http://localhost',
      async fetch() {
        if (isThere) return new Response(new Uint8Array(REPLY));
        throw Object.assign(new Error(`${code}: no server`), { code });
      },
      async revive() {
        revivedCount++;
        isThere = true;
      },
    };
    const fleet = new ServerFleet({
      ...{ servers: [server], heads: ['dense'], inputType: 'query', truncate: true },
      ...{ apiKey: undefined, concurrency: 1, patienceMs: 1000, clock },
      signal: new AbortController().signal,
    });
    let model = '';
    const over = fleet.encode(['a']).then(
      (encoded) => {
        model = encoded.model;
      },
      (error) => {
        model = error.message;
      },
    );
    while (model === '') await clock.advance(100);
    await over;
    expect([model, revivedCount]).toEqual(['m', 1]);
    await fleet.close();
  },
);

test('a server gets no more at a time than it shall, also while another one rests', async () => {
  const clock = new VirtualClock();
  const held: (() => void)[] = [];
  let peak = 0;
  let inFlight = 0;
  const resting = {
    url: 'http://resting',
    fetch: async () => new Response('', { status: 503, headers: { 'retry-after': '60' } }),
  };
  const working = {
    url: 'http://working',
    async fetch() {
      peak = Math.max(peak, ++inFlight);
      await new Promise<void>((resolve) => held.push(resolve));
      inFlight--;
      return new Response(new Uint8Array(REPLY));
    },
  };
  const fleet = new ServerFleet({
    ...{ servers: [resting, working], heads: ['dense'], inputType: 'query', truncate: true },
    ...{ apiKey: undefined, concurrency: 2, patienceMs: 1000, clock },
    signal: new AbortController().signal,
  });
  let doneCount = 0;
  const texts = ['a', 'b', 'c', 'd', 'e', 'f'];
  const calls = texts.map((text) => fleet.encode([text]).then(() => doneCount++));
  while (doneCount < texts.length) {
    await clock.settle();
    held.shift()?.();
  }
  await Promise.all(calls);
  expect([peak, clock.now(), clock.plannedCount]).toEqual([2, 0, 0]);
  await fleet.close();
});
