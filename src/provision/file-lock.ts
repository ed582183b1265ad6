import { mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { demand } from './provision-error.ts';

/** What `flock` shall answer where another process has the lock. */
const EXIT_TAKEN = 75;

/**
 * Does work that one process alone may do at a time, on this machine or on others that share the
 * file system. The kernel holds the lock for as long as this process has the file open: a process
 * that is killed has none. Own file because any set-up may share a folder.
 *
 * `flock` of util-linux, which every Debian and Ubuntu image has, locks a file that it was handed
 * open; the lock stays when it has ended. Bun has no call for it.
 *
 * @param options.path of a file that stays; it is made where it is missing.
 * @param options.wait runs what waits for the lock, where another process has it.
 * @throws ProvisionError where the file system has no locks.
 */
export async function withFileLock<T>(
  options: {
    readonly path: string;
    readonly wait: (untilLocked: () => Promise<void>) => Promise<void>;
  },
  work: () => Promise<T>,
): Promise<T> {
  const { path, wait } = options;
  await mkdir(dirname(path), { recursive: true });
  const file = await open(path, 'a');
  const isLocked = async (...flags: string[]): Promise<boolean> => {
    const child = Bun.spawn(['flock', ...flags, '3'], {
      stdio: ['ignore', 'ignore', 'pipe', file.fd],
    });
    const [said, exitCode] = await Promise.all([new Response(child.stderr).text(), child.exited]);
    demand(exitCode === 0 || exitCode === EXIT_TAKEN, `${path} cannot be locked: ${said.trim()}`);
    return exitCode === 0;
  };
  try {
    if (!(await isLocked('--nonblock', '--conflict-exit-code', String(EXIT_TAKEN)))) {
      await wait(async () => {
        await isLocked();
      });
    }
    return await work();
  } finally {
    await file.close();
  }
}
