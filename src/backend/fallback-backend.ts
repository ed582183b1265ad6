import { ServerError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Backend, BatchOutput, InferOptions, TokenBatch } from './backend.ts';

/**
 * One backend, and another of the same model that stands in while the first is down. What a batch
 * was served by is told with its output, and each change is logged.
 *
 * @param options.primary and `options.standIn` are owned from now on: `close` closes both.
 */
export function createFallbackBackend(options: {
  primary: Backend;
  standIn: Backend;
  log: Log;
}): Backend {
  const { primary, standIn, log } = options;
  let isStandingIn = false;

  function active(): Backend {
    const isNeeded = !primary.state().isReady && standIn.state().isReady;
    if (isNeeded !== isStandingIn) {
      isStandingIn = isNeeded;
      if (isNeeded) log.warn('fallback-on', { reason: primary.state().reason });
      else log.info('fallback-off', {});
    }
    return isNeeded ? standIn : primary;
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
        standIn.state().isReady &&
        batch.heads.every((head) => standIn.heads().includes(head));
      if (!isPassedOn) throw error;
      return await standIn.infer(batch, how);
    }
  }

  return {
    name: primary.name,
    isInProcess: primary.isInProcess,
    standIn: standIn.name,
    limits: () => active().limits(),
    heads: () => active().heads(),
    state: () => active().state(),
    endpoints: () => primary.endpoints?.() ?? [],
    doubt: async (servedBy) => await primary.doubt?.(servedBy),
    drain: async (url) => (await primary.drain?.(url)) ?? false,
    resume: (url) => primary.resume?.(url) ?? false,
    infer,
    async close() {
      await Promise.all([primary.close(), standIn.close()]);
    },
  };
}
