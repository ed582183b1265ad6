import type { Clock } from '../../base/clock.ts';
import { describeError, type Log } from '../../base/log.ts';
import { restartDelayMs } from '../../base/restart-delay.ts';
import { EXIT } from '../exit-status.ts';
import { type Counting, createNumberGathering, ownNumbers } from './number-gathering.ts';
import type { ProcessEnd, ProcessHandle, StartProcess } from './process-handle.ts';
import type { FromProcess } from './process-protocol.ts';

/** Keeps the processes of one server running. */
export interface Supervisor {
  /** The exit status of the whole, once no process is left. */
  readonly ended: Promise<number>;
  /** The first one drains, a second one ends everything at once. */
  onSignal(signal: NodeJS.Signals): void;
}

/** What the supervisor is told; each bound is a setting. */
export interface SupervisorOptions {
  readonly count: number;
  readonly startProcess: StartProcess;
  /** How often in a row a process that dies while starting is started again. */
  readonly restartsMax: number;
  /** How long a process may take until it listens. */
  readonly startMsMax: number;
  /** How long a drain may take. */
  readonly drainMsMax: number;
  readonly clock: Clock;
  readonly log: Log;
  /** Called once, when all processes listen, with the banner of the last. */
  readonly onListening: (banner: string) => void;
}

/** Statuses with which a process says that no start of it can work. */
const HOPELESS: ReadonlySet<number | null> = new Set([EXIT.settings, EXIT.port, EXIT.backend]);

/** The place of one process, which several may fill one after the other. */
interface Place {
  readonly index: number;
  process: (ProcessHandle & Counting) | undefined;
  isListening: boolean;
  /** Whether the process that runs now has told so. */
  hasStarted: boolean;
  /** Whether any process here has. */
  hasEverStarted: boolean;
  isGivenUp: boolean;
  deathsInARow: number;
}

/**
 * Starts one process and, when it listens, the others: what cannot start is told once, and only one
 * compiles what the others then read.
 *
 * A process that dies is replaced, like a worker: at once if it had started, a bounded number of
 * times in a row if not. One that is given up leaves the others serving; the last one ends the
 * whole. So does any of them while the server starts for the first time, and then a status that
 * says why is not tried again.
 */
export function createSupervisor(options: SupervisorOptions): Supervisor {
  const { clock, log, startProcess } = options;
  const { promise: ended, resolve: end } = Promise.withResolvers<number>();
  const places = Array.from({ length: options.count }, (_, index) => placeOf(index));
  let restartCount = 0;
  let isAnnounced = false;
  let haveOthersBegun = false;
  /** The exit status that is to come; undefined while the server is to run. */
  let endStatus: number | undefined;
  let isCutShort = false;
  const numbers = createNumberGathering({
    clock,
    processes: () =>
      running()
        .filter((place) => place.isListening)
        .map(processOf),
    own: (answeredCount) => ownNumbers({ answeredCount, restartCount, count: options.count }),
  });

  const running = (): Running[] => places.filter(isRunning);

  function start(place: Place): void {
    try {
      place.process = startIn(place);
    } catch (error) {
      place.deathsInARow++;
      died(place, { status: null, signal: null, reason: describeError(error) });
    }
  }

  function startIn(place: Place): ProcessHandle & Counting {
    const handle = startProcess({
      index: place.index,
      onMessage(message) {
        if (place.process !== current) return;
        if (message.kind === 'listening') cancelDeadline();
        onMessage(place, current, message);
      },
      onExit(how) {
        cancelDeadline();
        onExit(place, current, how);
      },
    });
    const current = { ...handle, askNumbers: (id: number) => handle.send({ kind: 'count', id }) };
    const cancelDeadline = clock.schedule(options.startMsMax, () => {
      log.error('process-start-late', { process: place.index, limitMs: options.startMsMax });
      handle.kill('SIGKILL');
    });
    log.info('process-started', { process: place.index, pid: handle.pid });
    return current;
  }

  function onMessage(place: Place, from: ProcessHandle & Counting, message: FromProcess): void {
    switch (message.kind) {
      case 'listening':
        place.isListening = true;
        onListening(message.banner);
        break;
      case 'started':
        place.hasStarted = true;
        place.hasEverStarted = true;
        place.deathsInARow = 0;
        break;
      case 'numbers':
        numbers.told(from, message.id, message.metrics);
        break;
      case 'scrape':
        numbers.scrape().then(
          (text) => from.send({ kind: 'scraped', id: message.id, text }),
          (error) => log.error('scrape-failed', { reason: describeError(error) }),
        );
    }
  }

  function onListening(banner: string): void {
    if (!haveOthersBegun) {
      haveOthersBegun = true;
      for (const place of places.slice(1)) if (endStatus === undefined) start(place);
    }
    if (isAnnounced || !places.every((place) => place.isListening)) return;
    isAnnounced = true;
    options.onListening(banner);
  }

  function onExit(place: Place, left: Counting, how: ProcessEnd): void {
    const { hasStarted } = place;
    place.process = undefined;
    place.isListening = false;
    place.hasStarted = false;
    numbers.left(left);
    if (endStatus === undefined) {
      // What died at work has started well: starts alone are counted.
      place.deathsInARow = hasStarted ? 0 : place.deathsInARow + 1;
      died(place, how);
      return;
    }
    // What did not end well decides; who had not begun has nothing to drain.
    if (endStatus === EXIT.drained && hasStarted && !isCutShort) endStatus = how.status ?? 1;
    endWhenEmpty();
  }

  function died(place: Place, how: ProcessEnd & { reason?: string }): void {
    restartCount++;
    const { deathsInARow } = place;
    log.error('process-died', { process: place.index, ...how, deathsInARow });
    const isOpen = places.every((each) => each.hasEverStarted);
    const isHopeless = !isOpen && HOPELESS.has(how.status);
    if (!isHopeless && deathsInARow <= options.restartsMax) {
      clock.schedule(restartDelayMs(deathsInARow), () => {
        if (endStatus === undefined) start(place);
      });
      return;
    }
    place.isGivenUp = true;
    log.error('process-given-up', { process: place.index, deathsInARow });
    if (!isOpen || places.every((each) => each.isGivenUp)) endAll(how.status || 1, 'SIGINT');
  }

  /** Nothing is started any more, and what runs is asked to end, as the whole was. */
  function endAll(status: number, signal: NodeJS.Signals): void {
    endStatus = status;
    for (const { process } of running()) process.kill(signal);
    clock.schedule(options.drainMsMax, () => {
      isCutShort = true;
      log.warn('drain-cut-short', { processes: running().length });
      for (const { process } of running()) process.kill('SIGKILL');
    });
    endWhenEmpty();
  }

  function endWhenEmpty(): void {
    if (endStatus !== undefined && running().length === 0) end(endStatus);
  }

  function onSignal(signal: NodeJS.Signals): void {
    if (endStatus === undefined) {
      log.info('draining', { signal, processes: running().length });
      endAll(EXIT.drained, signal);
      return;
    }
    for (const { process } of running()) process.kill('SIGKILL');
    end(EXIT.killed);
  }

  start(places[0]);
  return { ended, onSignal };
}

type Running = Place & { process: ProcessHandle & Counting };

function isRunning(place: Place): place is Running {
  return place.process !== undefined;
}

function processOf({ process }: Running): Counting {
  return process;
}

function placeOf(index: number): Place {
  const never = { isListening: false, hasStarted: false, hasEverStarted: false, isGivenUp: false };
  return { index, process: undefined, ...never, deathsInARow: 0 };
}
