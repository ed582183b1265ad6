import { ServerError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Backend, BatchOutput, InferOptions, TokenBatch } from './contract.ts';

/**
 * One backend, and another of the same model that serves while the first is down. The output of a
 * batch says which of them ran it; each change is logged.
 *
 * @param options.primary and `options.fallback` are owned from now on: `close` closes both.
 */
export function createFallbackBackend(options: {
  primary: Backend;
  fallback: Backend;
  log: Log;
}): Backend {
  const { primary, fallback, log } = options;
  let isOnFallback = false;

  function active(): Backend {
    const isNeeded = !primary.state().isReady && fallback.state().isReady;
    if (isNeeded !== isOnFallback) {
      isOnFallback = isNeeded;
      if (isNeeded) log.warn('fallback-on', { reason: primary.state().reason });
      else log.info('fallback-off', {});
    }
    return isNeeded ? fallback : primary;
  }

  async function infer(batch: TokenBatch, how: InferOptions = {}): Promise<BatchOutput> {
    const first = active();
    try {
      return await first.infer(batch, how);
    } catch (error) {
      const isPassedOn =
        first === primary &&
        error instanceof ServerError &&
        error.mayRepeatElsewhere &&
        fallback.state().isReady &&
        batch.heads.every((head) => fallback.capabilities().heads.includes(head));
      if (!isPassedOn) throw error;
      return await fallback.infer(batch, how);
    }
  }

  return {
    name: primary.name,
    isInProcess: primary.isInProcess,
    get isUnstoppable() {
      return active().isUnstoppable ?? false;
    },
    standIn: fallback.name,
    get modelStarts() {
      return primary.modelStarts ?? 0;
    },
    get engine() {
      return active().engine;
    },
    ...(primary.endpoints && { endpoints: primary.endpoints }),
    capabilities: () => active().capabilities(),
    state: () => active().state(),
    doubt: (servedBy) => primary.doubt(servedBy),
    infer,
    async close() {
      await Promise.all([primary.close(), fallback.close()]);
    },
  };
}
