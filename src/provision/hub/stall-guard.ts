import type { Clock } from '../../base/clock.ts';
import { HubError } from './hub-request.ts';

/** A deadline on each wait for the network, and one signal that ends them all. */
export interface StallGuard {
  readonly signal: AbortSignal;
  /** Waits for a step, but no longer than the setting. */
  guard<T>(step: Promise<T>): Promise<T>;
  /** Ends what is still under way. */
  done(): void;
}

/**
 * A half-open connection never fails by itself: each wait for the network has its own deadline.
 *
 * @param options.label what is waited for; begins the message.
 */
export function createStallGuard(options: {
  readonly clock: Clock;
  readonly stallMsMax: number;
  readonly label: string;
}): StallGuard {
  const controller = new AbortController();
  return {
    signal: controller.signal,
    async guard(step) {
      let cancel = () => {};
      const stalled = new Promise<never>((_, reject) => {
        cancel = options.clock.schedule(options.stallMsMax, () => {
          const message = `${options.label}: nothing came for ${options.stallMsMax} ms.`;
          reject(new HubError('HUB_UNREACHABLE', message, { retryable: true }));
          controller.abort();
        });
      });
      try {
        return await Promise.race([step, stalled]);
      } finally {
        cancel();
      }
    },
    done: () => controller.abort(),
  };
}
