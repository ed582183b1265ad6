import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type Clock, sleep } from '../../base/clock.ts';
import { writeFully } from '../../model/files.ts';
import {
  type HubAnswer,
  HubError,
  type HubHash,
  type HubPlace,
  hubUrl,
  requestHubFile,
} from './hub-request.ts';

/** How a download is done, beside what is downloaded. */
export interface DownloadSettings {
  readonly clock: Clock;
  /** Attempts in a row that bring no byte, before giving up. */
  readonly attemptCountMax: number;
  /** The first pause after a failure; it doubles up to `backoffMsMax`. */
  readonly backoffMsMin: number;
  readonly backoffMsMax: number;
  /** A connection that brings nothing for so long is given up and made anew. */
  readonly stallMsMax: number;
  /** Told after each piece: bytes on disk, and of the whole file where known. */
  readonly onProgress?: (bytesDone: number, bytesTotal: number | null) => void;
  /** Told why an attempt failed and when the next one starts. */
  readonly onRetry?: (reason: string, delayMs: number) => void;
}

/** What the file must be, where that is known beforehand. */
export interface ExpectedFile {
  readonly bytes: number | null;
  /** 64 lower-case hex digits. */
  readonly sha256: string | null;
}

/** A file that was downloaded and verified. */
export interface DownloadedFile {
  readonly bytes: number;
  readonly sha256: string;
  /** What it was held against. */
  readonly verifiedBy: 'sha256' | 'hub sha256' | 'hub git-sha1';
}

/**
 * Downloads one file of a hub. The bytes gather in `<target>.partial`, which a cut connection, a
 * crash or Ctrl-C leaves in place and the next call takes up. Only a file whose hash is the
 * expected one gets its final name: the pinned sha256 where there is one, else the hash that the
 * hub states for the pinned revision.
 *
 * @throws HubError
 */
export async function downloadHubFile(options: {
  readonly place: HubPlace;
  readonly expected: ExpectedFile;
  readonly target: string;
  readonly settings: DownloadSettings;
}): Promise<DownloadedFile> {
  const { place, expected, target, settings } = options;
  const partial = `${target}.partial`;
  await mkdir(dirname(target), { recursive: true });
  for (let isSecondTry = false; ; isSecondTry = true) {
    const wasResumed = (await sizeOf(partial)) > 0;
    const hash = await fetchAll({ place, expected, partial, settings });
    const found = await verify({ place, expected, partial, hash });
    if (found !== null) {
      await rename(partial, target);
      return found;
    }
    await rm(partial, { force: true });
    // What an earlier run left may be of another file, or torn by a power cut: then a clean start
    // helps. Bytes that came whole and wrong will come so again.
    if (!wasResumed || isSecondTry) {
      const wanted = expected.sha256 ?? hash?.hex;
      const message =
        `${hubUrl(place)} is not the file that was pinned: ` + `expected ${wanted}. Removed.`;
      throw new HubError('HUB_FILE_HASH', message);
    }
    settings.onRetry?.('the part that an earlier run left does not fit; starting over', 0);
  }
}

interface Fetching {
  readonly place: HubPlace;
  readonly expected: ExpectedFile;
  readonly partial: string;
  readonly settings: DownloadSettings;
}

/**
 * Brings the partial file to its full length, over as many connections as that takes. Returns the
 * hub's hash.
 */
async function fetchAll(fetching: Fetching): Promise<HubHash | null> {
  const { partial, settings } = fetching;
  let failures = 0;
  for (;;) {
    const before = await sizeOf(partial);
    try {
      return await fetchOnce(fetching, before);
    } catch (error) {
      const failure = asHubError(error);
      const gained = (await sizeOf(partial)) > before;
      failures = gained ? 1 : failures + 1;
      if (!failure.retryable || failures >= settings.attemptCountMax) throw failure;
      const doubled = settings.backoffMsMin * 2 ** (failures - 1);
      const delayMs = Math.min(failure.retryAfterMs ?? doubled, settings.backoffMsMax);
      settings.onRetry?.(failure.message, delayMs);
      await sleep(settings.clock, delayMs);
    }
  }
}

async function fetchOnce(fetching: Fetching, have: number): Promise<HubHash | null> {
  const { place, expected, partial, settings } = fetching;
  const stall = createStallGuard({ ...settings, label: hubUrl(place) });
  try {
    const answer = await stall.guard(requestHubFile(place, have, stall.signal));
    if (answer === null) {
      // Nothing from here on: either all is here, or what is here is too long. The hash decides.
      const whole = await stall.guard(requestHubFile(place, 0, stall.signal));
      await whole?.body.cancel();
      return whole?.hash ?? null;
    }
    const byteCount = expected.bytes ?? answer.byteCount;
    if (answer.byteCount !== null && answer.byteCount !== byteCount) {
      await answer.body.cancel();
      const message = `${hubUrl(place)} has ${answer.byteCount} bytes, expected ${byteCount}.`;
      throw new HubError('HUB_FILE_HASH', message);
    }
    const end = await writeBody({ answer, partial, stall, settings, byteCount });
    if (byteCount === null || end === byteCount) return answer.hash;
    throw new HubError(
      'HUB_UNREACHABLE',
      `${hubUrl(place)}: the connection ended at byte ${end} of ${byteCount}.`,
      { retryable: end < byteCount },
    );
  } finally {
    stall.done();
  }
}

async function writeBody(options: {
  answer: HubAnswer;
  partial: string;
  stall: StallGuard;
  settings: DownloadSettings;
  byteCount: number | null;
}): Promise<number> {
  const { answer, partial, stall, settings, byteCount } = options;
  const file = await open(partial, answer.start > 0 ? 'r+' : 'w');
  const reader = answer.body.getReader();
  let at = answer.start;
  try {
    for (;;) {
      const { done, value } = await stall.guard(reader.read());
      if (done) break;
      await writeFully(file, value, at);
      at += value.length;
      // What goes on past its end may never end, and would fill the disk.
      if (byteCount !== null && at > byteCount) break;
      settings.onProgress?.(at, byteCount);
    }
    await file.sync();
  } finally {
    await reader.cancel().catch(() => {});
    await file.close();
  }
  return at;
}

/** Null when the file is not what was pinned. */
async function verify(options: {
  place: HubPlace;
  expected: ExpectedFile;
  partial: string;
  hash: HubHash | null;
}): Promise<DownloadedFile | null> {
  const { place, expected, partial, hash } = options;
  if (expected.sha256 === null && hash === null) {
    const message = `${hubUrl(place)}: the hub states no hash, and none is pinned. Not taken.`;
    throw new HubError('HUB_ANSWER_INVALID', message);
  }
  const bytes = await sizeOf(partial);
  const sha256 = createHash('sha256');
  const gitSha1 = createHash('sha1').update(`blob ${bytes}\0`);
  for await (const piece of createReadStream(partial)) {
    sha256.update(piece as Uint8Array);
    if (hash?.algorithm === 'git-sha1') gitSha1.update(piece as Uint8Array);
  }
  const found = sha256.digest('hex');
  const file = { bytes, sha256: found };
  if (expected.sha256 !== null) {
    return found === expected.sha256 ? { ...file, verifiedBy: 'sha256' } : null;
  }
  if (hash?.algorithm === 'sha256') {
    return found === hash.hex ? { ...file, verifiedBy: 'hub sha256' } : null;
  }
  return gitSha1.digest('hex') === hash?.hex ? { ...file, verifiedBy: 'hub git-sha1' } : null;
}

async function sizeOf(path: string): Promise<number> {
  return (await stat(path).catch(() => null))?.size ?? 0;
}

/**
 * Whatever else breaks while bytes come in is the connection, unless the disk says that it is full.
 */
function asHubError(error: unknown): HubError {
  if (error instanceof HubError) return error;
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const reason = error instanceof Error ? error.message : String(error);
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    const message = 'The disk or quota is full: free some space and run it again; nothing is lost.';
    return new HubError('HUB_DISK_FULL', message, { cause: error });
  }
  const isDisk = /^(EACCES|EROFS|EPERM|EIO|ENOENT)$/.test(code);
  return new HubError('HUB_UNREACHABLE', `The download broke off: ${reason}`, {
    retryable: !isDisk,
    cause: error,
  });
}

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
function createStallGuard(options: {
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
