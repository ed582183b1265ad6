import { constants } from 'node:os';
import { runCommand } from '../../run-command.ts';
import { BUILD_CONTAINER, dockerRemove, GATE_CONTAINER } from './docker-commands.ts';

/**
 * Runs what starts containers, and leaves none of them behind: those of an export that was killed
 * are removed before, its own when it is told to end. Docker keeps a container whose client is
 * gone, and with it the memory of the GPU.
 *
 * @param options.cleanUp what else must not stay when a signal ends the export.
 */
export async function withContainers<T>(options: {
  readonly work: () => Promise<T>;
  readonly cleanUp: () => Promise<void>;
}): Promise<T> {
  await removeContainers();
  let ending: Promise<void> | undefined;
  const end = (signal: 'SIGINT' | 'SIGTERM') => {
    ending ??= removeContainers()
      .then(options.cleanUp)
      .finally(() => process.exit(128 + constants.signals[signal]));
  };
  process.on('SIGINT', end).on('SIGTERM', end);
  try {
    return await options.work();
  } finally {
    // The work fails when its container goes: that is not what ended the export.
    await ending;
    process.off('SIGINT', end).off('SIGTERM', end);
  }
}

async function removeContainers(): Promise<void> {
  await runCommand(['docker', ...dockerRemove(BUILD_CONTAINER, GATE_CONTAINER)]);
}
