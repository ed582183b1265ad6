import type { Clock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { MetricNumbers } from '../../observe/metric-book.ts';
import { type FromProcess, parseFromSupervisor } from './process-protocol.ts';

/** The end of the channel to the supervisor that one of several processes holds. */
export interface SupervisorChannel {
  /** Which of the processes it is, from 0. */
  readonly index: number;
  /** It takes connections; `banner` is for people, and told once by the supervisor. */
  tellListening(banner: string): void;
  /** Its workers are up. */
  tellStarted(): void;
  /** From now on it answers the supervisor, with these numbers. */
  count(numbers: () => Promise<readonly MetricNumbers[]>): void;
  /**
   * The text for Prometheus, over all processes. @throws Error when the supervisor does not answer.
   */
  scrape(): Promise<string>;
}

/**
 * How long the supervisor may take, in ms: longer than it waits for a process, twice, since a
 * scrape may stand behind another one.
 */
const SCRAPE_MS_MAX = 6000;

/** Messages to and from the process that started this one. */
export interface ParentMessages {
  send(message: FromProcess): void;
  /** What comes in, from now on. */
  onMessage(take: (message: unknown) => void): void;
}

/** Those of this very process. Where nobody listens, what is sent is lost. */
export const parentMessages: ParentMessages = {
  send(message) {
    if (process.connected) process.send?.(message);
  },
  onMessage(take) {
    process.on('message', take);
  },
};

/** Joins the supervisor that started this process. */
export function createSupervisorChannel(options: {
  index: number;
  parent: ParentMessages;
  clock: Clock;
  log: Log;
}): SupervisorChannel {
  const { index, parent, clock, log } = options;
  const scrapes = new Map<number, (text: string) => void>();
  let scrapeCount = 0;
  let numbers: (() => Promise<readonly MetricNumbers[]>) | undefined;

  parent.onMessage(async (message) => {
    const known = parseFromSupervisor(message);
    if (known === undefined) log.error('process-message-unknown');
    else if (known.kind === 'scraped') scrapes.get(known.id)?.(known.text);
    else if (numbers !== undefined) {
      parent.send({ kind: 'numbers', id: known.id, metrics: await numbers() });
    }
  });

  return {
    index,
    tellListening: (banner) => parent.send({ kind: 'listening', banner }),
    tellStarted: () => parent.send({ kind: 'started' }),
    count(read) {
      numbers = read;
    },
    scrape() {
      const id = ++scrapeCount;
      const { promise, resolve, reject } = Promise.withResolvers<string>();
      const cancel = clock.schedule(SCRAPE_MS_MAX, () => {
        scrapes.delete(id);
        reject(new Error(`The supervisor did not answer a scrape within ${SCRAPE_MS_MAX} ms.`));
      });
      scrapes.set(id, (text) => {
        cancel();
        scrapes.delete(id);
        resolve(text);
      });
      parent.send({ kind: 'scrape', id });
      return promise;
    },
  };
}
