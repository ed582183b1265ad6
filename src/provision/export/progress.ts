import type { Clock } from '../../base/clock.ts';

/** Often enough to show that it moves, seldom enough for a log. */
const SAY_MS = 2_000;
/** A build takes minutes: a line every two seconds would be hundreds. */
const SILENCE_MS = 10_000;

/** Says how a download gets on: a line every two seconds, and one at its end. */
export function createProgress(options: { clock: Clock; say: (line: string) => void }): {
  onFile: (path: string) => void;
  onBytes: (bytesDone: number, bytesTotal: number | null) => void;
  onRetry: (reason: string, delayMs: number) => void;
} {
  const { clock, say } = options;
  let path = '';
  let saidAt = clock.now();
  let [startedAt, startedFrom]: [number, number | null] = [saidAt, null];
  return {
    onFile(next) {
      path = next;
      [startedAt, startedFrom] = [clock.now(), null];
    },
    onRetry: (reason, delayMs) => say(`${reason} Again in ${delayMs / 1000} s.`),
    onBytes(bytesDone, bytesTotal) {
      const now = clock.now();
      // A resumed download must not count what was there before as speed.
      startedFrom ??= bytesDone;
      if (now - saidAt < SAY_MS && bytesDone !== bytesTotal) return;
      saidAt = now;
      const speed = (bytesDone - startedFrom) / Math.max(now - startedAt, 1) / 1_000;
      const part = bytesTotal === null ? '' : ` of ${megabytes(bytesTotal)}`;
      say(`${path}: ${megabytes(bytesDone)}${part} MB, ${speed.toFixed(1)} MB/s`);
    },
  };
}

/** Says every ten seconds how long work that shows nothing of itself has gone on; it still does. */
export async function sayWhile<T>(
  options: { readonly clock: Clock; readonly say: (line: string) => void; readonly words: string },
  work: () => Promise<T>,
): Promise<T> {
  const { clock, say, words } = options;
  const startedAt = clock.now();
  let cancel = () => {};
  const wait = () => {
    cancel = clock.schedule(SILENCE_MS, () => {
      say(`  still ${words} (${Math.round((clock.now() - startedAt) / 1000)} s)`);
      wait();
    });
  };
  wait();
  try {
    return await work();
  } finally {
    cancel();
  }
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
