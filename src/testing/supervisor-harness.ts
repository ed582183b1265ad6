import { createLog } from '../base/log.ts';
import type { ProcessEnd, ProcessHandle } from '../serve/processes/process-handle.ts';
import type { FromProcess, FromSupervisor } from '../serve/processes/process-protocol.ts';
import { createSupervisor, type SupervisorOptions } from '../serve/processes/supervisor.ts';
import { VirtualClock } from './virtual-clock.ts';

/** A process that does what the test says, and records what it is told. */
export class PlayedProcess implements ProcessHandle {
  readonly pid = 1;
  readonly received: FromSupervisor[] = [];
  readonly signals: string[] = [];
  readonly index: number;
  readonly say: (message: FromProcess) => void;
  readonly end: (how: ProcessEnd) => void;

  constructor(options: Parameters<SupervisorOptions['startProcess']>[0]) {
    this.index = options.index;
    this.say = options.onMessage;
    this.end = options.onExit;
  }

  readonly send = (message: FromSupervisor): void => {
    this.received.push(message);
  };

  readonly kill = (signal: NodeJS.Signals): void => {
    this.signals.push(signal);
  };

  listens(): void {
    this.say({ kind: 'listening', banner: `banner of ${this.index}` });
  }

  starts(): void {
    this.listens();
    this.say({ kind: 'started' });
  }
}

/** An end that no process wants. */
export const CRASH: ProcessEnd = { status: null, signal: 'SIGSEGV' };

/** A supervisor of two played processes, unless told otherwise. */
export function play(options: Partial<SupervisorOptions> = {}) {
  const clock = new VirtualClock();
  const processes: PlayedProcess[] = [];
  const banners: string[] = [];
  const events: string[] = [];
  const write = (line: string): unknown => events.push(JSON.parse(line).event);
  let status: number | undefined;
  const supervisor = createSupervisor({
    count: 2,
    startProcess(started) {
      const played = new PlayedProcess(started);
      processes.push(played);
      return played;
    },
    restartsMax: 2,
    startMsMax: 1000,
    drainMsMax: 500,
    clock,
    log: createLog({ level: 'debug', write }),
    onListening: (banner) => banners.push(banner),
    ...options,
  });
  void supervisor.ended.then((ended) => {
    status = ended;
  });
  const ended = async (): Promise<number | undefined> => {
    await clock.settle();
    return status;
  };
  return { clock, processes, banners, events, supervisor, ended };
}

/** Both have started. */
export function playRunning(options: Partial<SupervisorOptions> = {}) {
  const stage = play(options);
  stage.processes[0].starts();
  stage.processes[1].starts();
  return stage;
}
