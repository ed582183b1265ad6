import { describe, expect, test } from 'bun:test';
import type { ServerError } from '../../base/errors.ts';
import { describeError } from '../../base/log.ts';
import { type FakeBehaviour, startFakeTriton } from '../fake-triton.ts';
import { tritonBackendOn } from '../triton-backend-on.ts';
import { until } from '../until.ts';
import { BATCH, DIMENSION, MODEL, RIGHT, tritonUnderFault } from './triton-under-fault.ts';

/**
 * The Triton backend against a server that stalls, resets and refuses.
 *
 * Faults that were planted in the code by hand, and that this suite caught: no retry; a retry of
 * what was refused; a retry that never takes the endpoint down, or a first failure that does; no
 * deadline on the body; gzip asked for; an endpoint called ready by its metadata; a failing
 * endpoint that still gets batches.
 */

const under = tritonUnderFault();

describe('one failure on a pooled connection', () => {
  const silent: readonly FakeBehaviour['kind'][] = ['stall', 'half-header', 'half-body'];

  test.each(silent)('%s: the deadline ends it, a fresh connection answers', async (kind) => {
    expect(await under.infer()).toEqual(RIGHT);
    under.fake.behaveOnce({ kind } as FakeBehaviour);
    expect(await under.inferPastDeadlines(1)).toEqual(RIGHT);
    const [first, second, third] = under.batchRequests();
    expect(second.connectionIndex).toBe(first.connectionIndex);
    expect(third.connectionIndex).not.toBe(second.connectionIndex);
    expect(under.backend.state().isReady).toBe(true);
  });

  const abrupt: readonly FakeBehaviour['kind'][] = ['reset', 'truncate'];

  test.each(abrupt)('%s: a fresh connection answers at once', async (kind) => {
    under.fake.behaveOnce({ kind } as FakeBehaviour);
    expect(await under.infer()).toEqual(RIGHT);
    const [first, second] = under.batchRequests();
    expect(under.batchRequests()).toHaveLength(2);
    expect(second.connectionIndex).not.toBe(first.connectionIndex);
    expect(under.backend.state().isReady).toBe(true);
  });

  test('503 once is tried again', async () => {
    under.fake.behaveOnce({ kind: 'status', status: 503, body: '{"error":"queue is full"}' });
    expect(await under.infer()).toEqual(RIGHT);
    expect(under.batchRequests()).toHaveLength(2);
  });
});

describe('a failure that lasts', () => {
  test.each(['stall', 'half-body'] as const)(
    '%s: EMB_BACKEND_TIMEOUT, then down since a probe hangs as well',
    async (kind) => {
      under.fake.behave({ kind });
      expect(await under.inferWhileTimePasses()).toMatchObject({ code: 'EMB_BACKEND_TIMEOUT' });
      expect(under.batchRequests()).toHaveLength(1);
      expect(under.backend.state().isReady).toBe(false);
      under.fake.behave({ kind: 'answer' });
      await recovered();
    },
  );

  test.each(['reset', 'truncate'] as const)(
    '%s: EMB_BACKEND_UNAVAILABLE, then down until a probe works',
    async (kind) => {
      under.fake.behave({ kind });
      expect(await under.infer()).toMatchObject({ code: 'EMB_BACKEND_UNAVAILABLE' });
      expect(under.batchRequests()).toHaveLength(1);
      expect(under.backend.state()).toMatchObject({ isReady: false });
      expect(under.backend.state().reason).toContain(under.fake.url);
      under.fake.behave({ kind: 'answer' });
      await recovered();
    },
  );

  test('a server that is gone is down; back on its port, it is found again', async () => {
    await under.fake.stop();
    expect(await under.infer()).toMatchObject({ code: 'EMB_BACKEND_UNAVAILABLE' });
    expect(under.backend.state().isReady).toBe(false);
    for (let probe = 0; probe < 3; probe++) await under.clock.advance(1000);
    expect(under.backend.state().isReady).toBe(false);
    await under.fake.restart();
    await recovered();
  });

  test('a server that hangs with nothing to do is found out', async () => {
    under.fake.behave({ kind: 'stall' });
    const callCount = under.fake.inferences.length;
    await under.clock.advance(1000);
    await until('a probe hangs', () => under.fake.inferences.length > callCount);
    await under.clock.advance(5000);
    await until('the endpoint is down', () => !under.backend.state().isReady);
    under.fake.behave({ kind: 'answer' });
    await recovered();
  });

  test('metadata alone do not make an endpoint ready: a real inference does', async () => {
    await under.fake.stop();
    await under.infer();
    under.fake.behave({ kind: 'status', status: 500, body: '{"error":"model failed to load"}' });
    await under.fake.restart();
    const callCount = under.fake.calls.length;
    await until('a probe has come as far as the inference', async () => {
      await under.clock.advance(100);
      return under.fake.calls.slice(callCount).some((call) => call.endsWith('/infer'));
    });
    expect(under.backend.state().isReady).toBe(false);
    under.fake.behave({ kind: 'answer' });
    await recovered();
  });

  async function recovered(): Promise<void> {
    await until('the backend is ready again', async () => {
      await under.clock.advance(100);
      return under.backend.state().isReady;
    });
    expect(await under.infer()).toEqual(RIGHT);
  }
});

describe('a refusal', () => {
  const refusal = (status: number): FakeBehaviour => {
    return { kind: 'status', status, body: '{"error":"unexpected shape for input"}' };
  };

  test.each([400, 500, 501])(
    '%d of one batch: EMB_BACKEND_FAILED, not tried again',
    async (status) => {
      under.fake.behaveOnce(refusal(status));
      const error = (await under.infer()) as ServerError;
      expect(error).toMatchObject({ code: 'EMB_BACKEND_FAILED', cause: { isDeath: false } });
      expect(String(error)).not.toContain('unexpected shape');
      expect(describeError(error)).toContain('unexpected shape');
      expect(under.batchRequests()).toHaveLength(1);
      expect(under.backend.state().isReady).toBe(true);
    },
  );

  test('of everything, the probe too: the endpoint is down, and the batch may be why', async () => {
    under.fake.behave(refusal(500));
    const error = await under.infer();
    expect(error).toMatchObject({ code: 'EMB_BACKEND_FAILED', cause: { isDeath: true } });
    expect(under.backend.state().isReady).toBe(false);
  });

  test('a batch that hangs twice on a server that answers others is marked', async () => {
    under.fake.behaveOnce({ kind: 'stall' });
    under.fake.behaveOnce({ kind: 'stall' });
    const error = await under.inferPastDeadlines(2);
    expect(error).toMatchObject({ code: 'EMB_BACKEND_TIMEOUT', cause: { isDeath: true } });
    expect(under.backend.state().isReady).toBe(true);
  });
});

describe('a batch that nobody waits for any more', () => {
  test('is given up at Triton too: its connection ends, and the next batch is right', async () => {
    under.fake.behaveOnce({ kind: 'stall' });
    const controller = new AbortController();
    const outcome = under.backend
      .infer(BATCH, { signal: controller.signal })
      .catch((error: ServerError) => error.code);
    await until('it has arrived', () => under.batchRequests().length === 1);
    const before = under.fake.connectionCount;
    controller.abort();
    expect(await outcome).toBe('EMB_REQUEST_ABORTED');
    await until('its connection has ended', () => under.fake.connectionCount < before);
    expect(await under.infer()).toEqual(RIGHT);
    expect(under.backend.state().isReady).toBe(true);
  });
});

describe('several endpoints', () => {
  test('a batch goes elsewhere when its endpoint fails, and that one is out until a probe', async () => {
    const shape = { datatype: 'INT64', dimension: DIMENSION, batchTextsMax: 32 } as const;
    const other = await startFakeTriton({ model: MODEL, ...shape });
    const urls = [under.fake.url, other.url];
    const { clock } = under;
    const both = tritonBackendOn({ urls, model: MODEL, dimension: DIMENSION, clock });
    try {
      await until('both are up', () => both.capabilities().slotCount === 4);
      under.fake.behave({ kind: 'reset' });
      const outputs = await Promise.all(Array.from({ length: 6 }, () => both.infer(BATCH)));
      for (const { dense } of outputs)
        expect([...(dense?.values(0, DIMENSION) ?? [])]).toEqual(RIGHT[0]);
      expect(both.state().isReady).toBe(true);
      expect(both.capabilities().slotCount).toBe(2);
      expect(other.problems).toEqual([]);
    } finally {
      await both.close();
      await other.stop();
    }
  });
});
