import { readFileSync } from 'node:fs';
import { availableParallelism, freemem } from 'node:os';

/** What the container may use, in whole; undefined where nothing says so. */
export interface ContainerLimits {
  readonly memoryBytes: number | undefined;
  /** May be a part of one. */
  readonly cores: number | undefined;
}

/** Where Linux shows a process its own limits (cgroup v2): the root of what a container sees. */
const FOLDER = '/sys/fs/cgroup';

/**
 * Reads the limits that Docker and Kubernetes set. The runtime sees the machine's memory alone.
 *
 * @param folder of cgroup v2. One that is missing, of version 1 or unreadable has no limits.
 */
export function readContainerLimits(folder: string = FOLDER): ContainerLimits {
  const memory = Number(wordsOf(`${folder}/memory.max`)[0]);
  const [quota, period] = wordsOf(`${folder}/cpu.max`).map(Number);
  return {
    memoryBytes: memory > 0 ? memory : undefined,
    cores: quota > 0 && period > 0 ? quota / period : undefined,
  };
}

/** Whole cores that this process may use: of a part of one, it has one. */
export function coreCountOf({ cores }: ContainerLimits): number {
  return Math.min(availableParallelism(), Math.ceil(cores ?? Number.POSITIVE_INFINITY));
}

/**
 * Memory that this process may still take: what the machine has free, or less where the container
 * has a limit. Pages of files that nobody has read lately count as free, as for the kernel.
 *
 * @param options.machineBytes free on the machine.
 */
export function freeMemoryBytes({ folder = FOLDER, machineBytes = freemem() } = {}): number {
  const { memoryBytes } = readContainerLimits(folder);
  if (memoryBytes === undefined) return machineBytes;
  const stat = wordsOf(`${folder}/memory.stat`);
  const idle = Number(stat[stat.indexOf('inactive_file') + 1]);
  const taken = Number(wordsOf(`${folder}/memory.current`)[0] ?? 0) - (idle || 0);
  return Math.max(0, Math.min(machineBytes, memoryBytes - taken));
}

/** `max` is no number, as is nothing. */
function wordsOf(path: string): readonly string[] {
  try {
    return readFileSync(path, 'utf8').trim().split(/\s+/);
  } catch {
    return [];
  }
}
