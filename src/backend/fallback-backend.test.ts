import { expect, test } from 'bun:test';
import { ServerError } from '../base/errors.ts';
import { createLog } from '../base/log.ts';
import { headSet } from '../vectors/output.ts';
import type { Backend } from './contract.ts';
import { createFallbackBackend } from './fallback-backend.ts';

/**
 * Faults that were planted in the code by hand, and that this suite caught: a refused batch that is
 * passed on; a fallback that stays when the first is back; a change that is not logged.
 */

const BATCH = { texts: [Int32Array.of(0, 5, 2)], paddedLength: 3, heads: headSet(['dense']) };

function fakeBackend(name: 'triton' | 'embedded') {
  const it = {
    isReady: true,
    error: undefined as ServerError | undefined,
    callCount: 0,
    isClosed: false,
    backend: {
      name,
      isUnstoppable: name === 'embedded',
      capabilities: () => ({ slotCount: name === 'triton' ? 2 : 1, heads: headSet(['dense']) }),
      state: () => ({ isReady: it.isReady, reason: it.isReady ? '' : `${name} is down.` }),
      async infer() {
        it.callCount++;
        if (it.error !== undefined) throw it.error;
        return { servedBy: name };
      },
      async close() {
        it.isClosed = true;
      },
    } as unknown as Backend,
  };
  return it;
}

function harness() {
  const lines: string[] = [];
  const log = createLog({ level: 'info', write: (line) => lines.push(line) });
  const primary = fakeBackend('triton');
  const fallback = fakeBackend('embedded');
  const both = createFallbackBackend({ primary: primary.backend, fallback: fallback.backend, log });
  return { primary, fallback, both, lines };
}

test('the fallback serves while the first is down, and no longer', async () => {
  const { primary, both, lines } = harness();
  expect((await both.infer(BATCH)).servedBy).toBe('triton');
  primary.isReady = false;
  expect(both.state().isReady).toBe(true);
  expect(both.capabilities().slotCount).toBe(1);
  // A text that its caller has left is still computed there, for who asks again.
  expect(both.isUnstoppable).toBe(true);
  expect((await both.infer(BATCH)).servedBy).toBe(both.standIn);
  primary.isReady = true;
  expect((await both.infer(BATCH)).servedBy).toBe('triton');
  const events = lines.map((line) => JSON.parse(line).event);
  expect(events).toEqual(['fallback-on', 'fallback-off']);
});

test('a batch that does not get through goes to the fallback, a refused one does not', async () => {
  const { primary, fallback, both } = harness();
  primary.error = new ServerError('EMB_BACKEND_UNAVAILABLE', 'gone');
  expect((await both.infer(BATCH)).servedBy).toBe('embedded');
  primary.error = new ServerError('EMB_BACKEND_FAILED', 'no');
  await expect(both.infer(BATCH)).rejects.toMatchObject({ code: 'EMB_BACKEND_FAILED' });
  expect(fallback.callCount).toBe(1);
});

test('both down is down, with the reason of the first; closed are both', async () => {
  const { primary, fallback, both } = harness();
  primary.isReady = false;
  fallback.isReady = false;
  expect(both.state()).toEqual({ isReady: false, reason: 'triton is down.' });
  await both.close();
  expect([primary.isClosed, fallback.isClosed]).toEqual([true, true]);
});
