import { rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describeError, type Log } from '../base/log.ts';

const SETUP = join(import.meta.dir, '../provision/setup.ts');

/**
 * Sets a mapped copy aside that failed its check, and lets set-up make it anew from the model's own
 * file, which it verifies first. It is a process of its own, so that nothing waits for it: the
 * server serves the plain file until its next start. What fails here is told, and costs memory.
 *
 * Own file because `parts.ts` only builds, and this changes files on disk.
 */
export async function replaceMappedCopy(options: {
  readonly mappedPath?: string;
  readonly modelsDir: string;
  readonly modelId: string;
  readonly reason: string;
  readonly log: Log;
}): Promise<void> {
  const { mappedPath = '', modelsDir, modelId, reason, log } = options;
  log.warn('mapped-weights-refused', { reason });
  const folder = dirname(mappedPath);
  let outcome: string;
  try {
    await rename(folder, `${folder}.damaged`);
    const command = [process.execPath, SETUP, '--model', modelId, '--models-dir', modelsDir];
    const child = Bun.spawn(command, { stdout: 'ignore', stderr: 'pipe' });
    const said = await new Response(child.stderr).text();
    const last = said.trim().split('\n').at(-1) ?? '';
    outcome = (await child.exited) === 0 ? 'rebuilt for the next start' : `not rebuilt: ${last}`;
  } catch (error) {
    outcome = `left in its place: ${describeError(error)}`;
  }
  log.info('mapped-weights-set-aside', { folder, outcome });
}
