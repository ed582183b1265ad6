import { sleep, systemClock } from '../base/clock.ts';

/**
 * How often the condition is looked at: it lies in another thread or process, which tells nobody.
 */
const POLL_MS = 5;

/**
 * A condition that has not come true by then never will; generous, since a busy machine is no
 * fault.
 */
const WAIT_MS_MAX = 30_000;

/**
 * Waits for a condition instead of for time.
 *
 * @param what completes "waited in vain until …".
 * @throws Error when it has not come true within half a minute.
 */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  const deadlineMs = systemClock.now() + WAIT_MS_MAX;
  while (!(await condition())) {
    if (systemClock.now() > deadlineMs) throw new Error(`waited in vain until ${what}`);
    await sleep(systemClock, POLL_MS);
  }
}
