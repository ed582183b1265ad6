import type { Log } from '../../base/log.ts';
import type { Environment } from '../../config/fit.ts';
import { type FromProcess, type FromSupervisor, parseFromProcess } from './process-protocol.ts';

/** A process that runs, as far as the supervisor holds it. */
export interface ProcessHandle {
  readonly pid: number;
  /** Lost when it has just ended: `onExit` follows then. */
  send(message: FromSupervisor): void;
  kill(signal: NodeJS.Signals): void;
}

/** How a process ended: by itself with a status, or by a signal. */
export interface ProcessEnd {
  readonly status: number | null;
  readonly signal: string | null;
}

/** Starts one of the processes. @throws Error when the system has no room for it. */
export type StartProcess = (options: {
  /** Which of the server's processes it is, from 0. */
  index: number;
  onMessage: (message: FromProcess) => void;
  onExit: (end: ProcessEnd) => void;
}) => ProcessHandle;

/**
 * Starts this program again as one process of several. The word on its command line is for us and
 * for `ps`; it is no setting.
 *
 * @param options.entry the program's file.
 */
export function createStartProcess(options: {
  entry: string;
  environment: Environment;
  port: number;
  log: Log;
}): StartProcess {
  const { entry, environment, port, log } = options;
  return ({ index, onMessage, onExit }) => {
    const child = Bun.spawn([process.execPath, entry, `${INDEX_FLAG}${index}`], {
      // The supervisor has found the port; a zero would be another one for each.
      env: { ...environment, PORT: String(port) },
      stdio: ['ignore', 'inherit', 'inherit'],
      // Structured clone: JSON has no NaN, and metrics have.
      serialization: 'advanced',
      ipc(message) {
        const known = parseFromProcess(message);
        if (known === undefined) log.error('process-message-unknown', { process: index });
        else onMessage(known);
      },
      onExit: (_child, status, signal) => onExit({ status, signal: signalName(signal) }),
    });
    return {
      pid: child.pid,
      send(message) {
        try {
          child.send(message);
        } catch {
          // The channel is closed: the process has ended.
        }
      },
      kill: (signal) => child.kill(signal),
    };
  };
}

const INDEX_FLAG = '--process=';

/** Which of several processes this one is; undefined when nobody told it. */
export function processIndexOf(commandLine: readonly string[]): number | undefined {
  const word = commandLine.find((word) => word.startsWith(INDEX_FLAG));
  return word === undefined ? undefined : Number(word.slice(INDEX_FLAG.length));
}

function signalName(signal: number | string | null | undefined): string | null {
  return signal === null || signal === undefined ? null : String(signal);
}
