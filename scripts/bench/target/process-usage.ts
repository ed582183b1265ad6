import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/**
 * Linux counts processor time in these ticks, whatever the kernel's own clock: USER_HZ, 100 on
 * every architecture in use.
 */
const TICKS_PER_S = 100;

/** What a process, or several together, have used and hold. */
export interface ProcessUsage {
  /** Processor time since the start, user and system, in ms. */
  readonly cpuMs: number;
  /** Resident memory in bytes. */
  readonly residentBytes: number;
}

/** What a process holds on to besides memory. */
export interface ProcessHoldings {
  /** Without those that the runtime starts and ends as it sees fit. */
  readonly threadCount: number;
  readonly socketCount: number;
}

/** The runtime's own helpers: compiler, collector, allocator, file pool. */
const RUNTIME_THREAD = /^(JIT|JSC|HeapHelper|mi-scavenger|Bun Pool|.*ollector Thread)/;

/**
 * Reads usage from `/proc`; where there is none (no Linux) and for processes that are gone, zeros.
 *
 * @param pids several are added up: a program and its children.
 */
export function usageOf(pids: readonly number[]): ProcessUsage {
  let cpuMs = 0;
  let residentBytes = 0;
  for (const pid of pids) {
    const fields = statOf(pid);
    if (fields === undefined) continue;
    cpuMs += ((Number(fields[11]) + Number(fields[12])) * 1000) / TICKS_PER_S;
    const resident = /^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    residentBytes += Number(resident ?? 0) * 1024;
  }
  return { cpuMs, residentBytes };
}

/**
 * Processor time of each kind of thread of a process, in ms since it started; threads of one name
 * are added up, and their numbers left out. Empty where there is no `/proc`.
 */
export function threadCpuMs(pid: number): Readonly<Record<string, number>> {
  const byName: Record<string, number> = {};
  for (const id of safeList(`/proc/${pid}/task`)) {
    const fields = statOf(`${pid}/task/${id}`);
    if (fields === undefined) continue;
    const own = threadName(pid, id).replace(/[- ]?\d+$/, '');
    const name = id === String(pid) ? 'main' : own;
    const ms = ((Number(fields[11]) + Number(fields[12])) * 1000) / TICKS_PER_S;
    byName[name] = (byName[name] ?? 0) + ms;
  }
  return byName;
}

/** Threads and open sockets of a process, from `/proc`; undefined where there is none. */
export function holdingsOf(pid: number): ProcessHoldings | undefined {
  try {
    const threads = readdirSync(`/proc/${pid}/task`).map((id) => threadName(pid, id));
    const threadCount = threads.filter((name) => name !== '' && !RUNTIME_THREAD.test(name)).length;
    const files = readdirSync(`/proc/${pid}/fd`).map((name) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${name}`);
      } catch {
        // Closed between the two looks.
        return '';
      }
    });
    return { threadCount, socketCount: files.filter((to) => to.startsWith('socket:')).length };
  } catch {
    return undefined;
  }
}

/** Empty for a thread that has ended between two looks. */
function threadName(pid: number, id: string): string {
  try {
    return readFileSync(`/proc/${pid}/task/${id}/comm`, 'utf8').trim();
  } catch {
    return '';
  }
}

/** A process and all that it started, and they started, and so on. */
export function processTree(root: number): readonly number[] {
  const childrenOf = new Map<number, number[]>();
  for (const name of safeList('/proc')) {
    const pid = Number(name);
    const parent = Number.isInteger(pid) ? Number(statOf(pid)?.[1]) : Number.NaN;
    if (Number.isNaN(parent)) continue;
    childrenOf.set(parent, [...(childrenOf.get(parent) ?? []), pid]);
  }
  const tree = [root];
  for (const pid of tree) tree.push(...(childrenOf.get(pid) ?? []));
  return tree;
}

/** Fields of a `stat` after the name, which may itself hold blanks and brackets. */
function statOf(pid: number | string): readonly string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}

function safeList(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
