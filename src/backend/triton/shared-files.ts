import {
  closeSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  statfsSync,
  unlinkSync,
} from 'node:fs';
import { join } from 'node:path';

/** Where Linux has shared memory objects as files: Triton's `/NAME` is `/dev/shm/NAME` here. */
const FOLDER = '/dev/shm';

/** What every region of this server is called first, its own and those of others like it. */
const PREFIX = 'bge-encoder';

let made = 0;

/** A file of shared memory that only our user may read. */
export interface SharedFile {
  /** Of the object, without a slash: unlike any other of this boot. */
  readonly name: string;
  readonly memory: Uint8Array<ArrayBuffer>;
  /** Takes its name away. Who has mapped it keeps the memory, and nobody else can get it. */
  remove(): void;
}

/**
 * Makes a file of shared memory. Its pages are taken when they are written.
 *
 * @throws Error when there is no such folder, or not so much room: a write to a page that cannot be
 * had would end this process.
 */
export function createSharedFile(bytes: number): SharedFile {
  const { bavail, bsize } = statfsSync(FOLDER);
  if (bavail * bsize < bytes) {
    throw new Error(`${FOLDER} has ${bavail * bsize} bytes of room, ${bytes} are wanted`);
  }
  const name = [PREFIX, ...identityOf('self'), ++made].join('-');
  const path = join(FOLDER, name);
  const file = openSync(path, 'wx', 0o600);
  try {
    ftruncateSync(file, bytes);
  } finally {
    closeSync(file);
  }
  const memory = Bun.mmap(path, { shared: true });
  return { name, memory, remove: () => removeIfThere(path) };
}

/** Whether a region of this name was made by a server of ours that has ended. */
export function isLeftBehind(name: string): boolean {
  if (!name.startsWith(`${PREFIX}-`)) return false;
  const [boot, pid, started] = name.slice(PREFIX.length + 1).split('-');
  try {
    return `${identityOf(pid)}` !== `${[boot, pid, started]}`;
  } catch {
    return true;
  }
}

/** Removes what servers of ours left behind that were killed. @returns the names. */
export function removeLeftBehind(): readonly string[] {
  try {
    const left = readdirSync(FOLDER).filter(isLeftBehind);
    for (const name of left) removeIfThere(join(FOLDER, name));
    return left;
  } catch {
    // No such folder: nothing can lie in it.
    return [];
  }
}

function removeIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Removed by another server of ours, which found it first.
  }
}

/** Boot, process id and start time: no other process has the same three. */
function identityOf(pid: string): readonly [boot: string, pid: string, started: string] {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').slice(0, 8);
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const started = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  return [boot, stat.split(' ')[0], started];
}
