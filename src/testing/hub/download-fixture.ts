import { afterEach, beforeEach } from 'bun:test';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Clock, systemClock } from '../../base/clock.ts';
import { type DownloadSettings, downloadHubFile } from '../../provision/hub/hub-download.ts';
import { type LoopbackHub, startLoopbackHub } from './loopback-hub.ts';

export const REPOSITORY = 'someone/model';
export const REVISION = '5617a9f61b028005a4858fdac845db406aefb181';
/** Large enough to be redirected, and small enough to live in the repository proper. */
export const large: Uint8Array = new Uint8Array(randomBytes(300_000));
export const small: Uint8Array = new Uint8Array(randomBytes(200));
export const sha256 = (bytes: Uint8Array): string =>
  createHash('sha256').update(bytes).digest('hex');

const STALL_MS = 77_777;

/**
 * A hub with two files, an empty folder, and a record of how downloads went; made anew for each
 * test.
 */
export class DownloadFixture {
  folder = '';
  hub: LoopbackHub;
  readonly retries: string[] = [];
  readonly delays: number[] = [];
  /** Ends the wait that is under way, as if its deadline had passed. */
  stall: () => void = () => {};

  constructor(hub: LoopbackHub) {
    this.hub = hub;
    hub.put({ repository: REPOSITORY, revision: REVISION, path: 'onnx/large.bin', content: large });
    hub.put({ repository: REPOSITORY, revision: REVISION, path: 'small.json', content: small });
  }

  /** Pauses between attempts pass at once; a stall is over when the test says so. */
  get clock(): Clock {
    return {
      ...systemClock,
      schedule: (delayMs, action) => {
        if (delayMs !== STALL_MS) {
          queueMicrotask(action);
          return () => {};
        }
        this.stall = action;
        return () => {
          this.stall = () => {};
        };
      },
    };
  }

  download(options: {
    path: string;
    bytes?: number;
    sha256?: string;
    revision?: string;
    settings?: Partial<DownloadSettings>;
  }): ReturnType<typeof downloadHubFile> {
    return downloadHubFile({
      place: {
        hub: `${this.hub.url}/`,
        repository: REPOSITORY,
        revision: options.revision ?? REVISION,
        path: options.path,
      },
      expected: { bytes: options.bytes ?? null, sha256: options.sha256 ?? null },
      target: join(this.folder, 'file'),
      settings: {
        clock: this.clock,
        attemptCountMax: 3,
        backoffMsMin: 1_000,
        backoffMsMax: 3_000,
        stallMsMax: STALL_MS,
        onRetry: (reason, delayMs) => {
          this.retries.push(reason);
          this.delays.push(delayMs);
        },
        ...options.settings,
      },
    });
  }

  async got(): Promise<Uint8Array> {
    return new Uint8Array(await readFile(join(this.folder, 'file')));
  }
}

/** Gives each test of the file its own fixture. */
export function useDownloadFixture(): () => DownloadFixture {
  let fixture: DownloadFixture | undefined;
  beforeEach(async () => {
    fixture = new DownloadFixture(await startLoopbackHub());
    fixture.folder = await mkdtemp(join(tmpdir(), 'hub-test-'));
  });
  afterEach(async () => {
    await fixture?.hub.close();
    await rm(fixture?.folder ?? '', { recursive: true, force: true });
  });
  return () => {
    if (!fixture) throw new Error('The fixture lives only inside tests.');
    return fixture;
  };
}
