import type { Admission } from '../../admission/admission.ts';
import type { Backend } from '../../backend/contract.ts';
import type { ServerError } from '../../base/errors.ts';
import type { MicroBatcher } from '../../batcher/micro-batcher.ts';
import type { EncodeResult } from '../../encode/contract.ts';
import { deterministicEmbedding } from '../triton/deterministic-embedding.ts';
import type { VirtualClock } from '../virtual-clock.ts';
import type { PlannedRequest, SimulatedLoad } from './simulated-load.ts';
import {
  DIMENSION,
  KILLER_ID,
  type ServerMood,
  type SimulatedInference,
  type SimulatedNetwork,
} from './simulated-network.ts';

/** What a run came to. */
export interface SimulationResult {
  /** What was seen that must never be, each with its virtual time. */
  readonly violations: readonly string[];
  readonly answeredCount: number;
  readonly refusedCount: number;
  readonly failedCount: number;
}

/** A request on its way, as the model sees it. */
export interface OpenRequest {
  readonly planned: PlannedRequest;
  readonly sentMs: number;
  hasHungUp: boolean;
  isAdmitted: boolean;
  isSettled: boolean;
}

/** The simple model beside the service: it knows what may happen to each request, and counts. */
export interface ServiceModel {
  sent(planned: PlannedRequest): OpenRequest;
  /** Called in the turn in which the request was handed in. */
  admitted(request: OpenRequest): void;
  answered(request: OpenRequest, result: EncodeResult): void;
  failed(request: OpenRequest, error: ServerError): void;
  checkStep(): void;
  checkEnd(plannedCount: number): void;
  isOver(): boolean;
  result(): SimulationResult;
}

/** Moods in which a server gives answers that are none. */
const LYING: ReadonlySet<ServerMood> = new Set([
  'crashed',
  'nan-rows',
  'short-rows',
  'copied-rows',
  'empty',
]);

/** Batches in flight to each server. */
const IN_FLIGHT = 2;

/** Which requests have a text, by its ids. */
function requestsByText({ requests }: SimulatedLoad): ReadonlyMap<string, Set<PlannedRequest>> {
  const byText = new Map<string, Set<PlannedRequest>>();
  for (const planned of requests) {
    for (const ids of planned.texts) {
      const key = ids.join(' ');
      byText.set(key, (byText.get(key) ?? new Set()).add(planned));
    }
  }
  return byText;
}

export function createServiceModel(world: {
  load: SimulatedLoad;
  clock: VirtualClock;
  network: SimulatedNetwork;
  admission: Admission;
  batcher: MicroBatcher;
  backend: Backend;
}): ServiceModel {
  const { load, clock, network, admission, batcher } = world;
  const violations: string[] = [];
  const open = new Set<OpenRequest>();
  const counts = { sent: 0, answered: 0, refused: 0, failed: 0 };
  const moods = new Set(load.moods.map(({ mood }) => mood));
  const hasLies = load.moods.some(({ mood }) => LYING.has(mood));
  const hasKiller = load.requests.some(({ texts }) => texts.some((ids) => ids[1] === KILLER_ID));
  const workMs = load.requests.reduce(
    (sum, { texts }) => sum + texts.reduce((ms, ids) => ms + 8 + ids.length / 25, 0),
    0,
  );

  const must = (isTrue: boolean, what: string): void => {
    if (!isTrue) violations.push(`${clock.now().toFixed(1)} ms: ${what}`);
  };
  const admittedOpen = (): OpenRequest[] => [...open].filter(({ isAdmitted }) => isAdmitted);
  const textCountOf = (requests: readonly OpenRequest[]): number =>
    requests.reduce((sum, { planned }) => sum + planned.texts.length, 0);
  const plannedBy = requestsByText(load);
  function wantedBy(ids: readonly number[]): OpenRequest[] {
    const planned = plannedBy.get(ids.join(' '));
    return [...open].filter((request) => planned?.has(request.planned));
  }

  /** Batches, and who wanted each of their texts when they were sent. */
  const sent = new Map<SimulatedInference, ReadonlyMap<string, readonly OpenRequest[]>>();

  network.onInference = (inference) => {
    const { texts, paddedLength } = inference;
    must(texts.length <= load.batchTextsMax, `a batch of ${texts.length} texts`);
    const tokens = texts.length * paddedLength;
    must(texts.length === 1 || tokens <= load.batchTokensMax, `a batch of ${tokens} tokens`);
    // One that is late is sent to another server too.
    const inFlight = new Set(
      network.inferences.flatMap(({ isOpen, texts }) => (isOpen ? [JSON.stringify(texts)] : [])),
    );
    must(inFlight.size <= load.serverCount * IN_FLIGHT, `${inFlight.size} batches in flight`);
    must(isWanted(inference), 'a batch was sent that nobody waits for');
    checkShares(inference);
    if (load.isPeaceful) checkComputedOnce(inference);
  };

  function checkShares({ texts }: SimulatedInference): void {
    const shares = new Map<PlannedRequest, number>();
    for (const ids of texts) {
      // A limit counts the texts that a request brings, not those that it shares with others.
      const [request, ...others] = plannedBy.get(ids.join(' ')) ?? [];
      if (request !== undefined && others.length === 0) {
        shares.set(request, (shares.get(request) ?? 0) + 1);
      }
    }
    for (const [{ batchTextsMax = 1e9 }, count] of shares) {
      must(count <= batchTextsMax, `${count} texts of a request that allows ${batchTextsMax}`);
    }
  }

  /** Where nothing fails, a text that somebody waits for since it was sent is not sent again. */
  function checkComputedOnce(inference: SimulatedInference): void {
    const keys = inference.texts.map((ids) => ids.join(' '));
    must(new Set(keys).size === keys.length, 'a text stands in a batch twice');
    for (const [other, wanted] of sent) {
      if (!other.isOpen) sent.delete(other);
      for (const key of other.isOpen ? keys : []) {
        const isStillWanted = wanted.get(key)?.some(({ isSettled }) => !isSettled) ?? false;
        must(!isStillWanted, 'a text is computed twice at once');
      }
    }
    sent.set(inference, new Map(inference.texts.map((ids, at) => [keys[at], wantedBy(ids)])));
  }

  function isWanted({ texts }: SimulatedInference): boolean {
    return texts.some((ids) => wantedBy(ids).length > 0);
  }

  function settle(request: OpenRequest): void {
    must(!request.isSettled, 'a request was settled twice');
    request.isSettled = true;
    open.delete(request);
  }

  function mayFail(request: OpenRequest, { code, details }: ServerError): boolean {
    const { planned, sentMs, hasHungUp, isAdmitted } = request;
    const isPoisoned = planned.isPoisoned;
    switch (code) {
      case 'EMB_QUEUE_FULL': {
        const waitMs = details.retryAfterMs ?? 0;
        if (planned.isCalm) return false;
        return !isAdmitted && waitMs >= 50 && waitMs <= 55_000 && admission.admittedTextCount > 0;
      }
      case 'EMB_REQUEST_ABORTED':
        return hasHungUp;
      case 'EMB_DEADLINE_EXCEEDED':
        // Whatever the servers do, nothing is left lying until the longest deadline.
        return planned.isHurried && clock.now() - sentMs >= planned.timeoutMs;
      case 'EMB_BACKEND_UNAVAILABLE':
        return moods.size > 0 || hasKiller;
      case 'EMB_BACKEND_TIMEOUT':
        return moods.has('hung') || moods.has('half-open') || moods.has('slow');
      case 'EMB_BACKEND_FAILED':
      case 'EMB_OUTPUT_INVALID':
        return isPoisoned || hasLies || hasKiller;
      case 'EMB_TEXT_REFUSED':
        return hasKiller || moods.has('crashed') || moods.has('hung') || moods.has('slow');
      default:
        return false;
    }
  }

  return {
    sent(planned) {
      counts.sent++;
      const sentMs = clock.now();
      const flags = { hasHungUp: false, isAdmitted: false, isSettled: false };
      const request = { planned, sentMs, ...flags };
      open.add(request);
      return request;
    },
    admitted(request) {
      const before = textCountOf(admittedOpen());
      const own = request.planned.texts.length;
      request.isAdmitted = admission.admittedTextCount === before + own;
      if (!request.isAdmitted || before === 0) return;
      const total = admission.admittedTextCount;
      const { caller } = request.planned;
      const isOwn = (other: PlannedRequest): boolean =>
        caller === undefined || other.caller === caller;
      const held = textCountOf(admittedOpen().filter(({ planned }) => isOwn(planned)));
      const share = load.textCountMax - (8 / 9) * (total - held);
      must(held <= share, `${caller} holds ${held} texts of ${total}, its share is ${share}`);
    },
    answered(request, { rows, tokenCounts }) {
      settle(request);
      counts.answered++;
      const { texts, timeoutMs } = request.planned;
      must(clock.now() - request.sentMs <= timeoutMs, 'answered after the deadline');
      must(rows?.length === texts.length, `${rows?.length} rows for ${texts.length} texts`);
      texts.forEach((ids, index) => {
        const right = deterministicEmbedding(ids, DIMENSION);
        must(tokenCounts[index] === ids.length, 'a token count is wrong');
        must(
          rows?.[index]?.every((value, at) => value === right[at]) ?? false,
          'a text got a row that is not its own',
        );
      });
    },
    failed(request, error) {
      settle(request);
      counts[error.code === 'EMB_QUEUE_FULL' ? 'refused' : 'failed']++;
      must(mayFail(request, error), `a request failed for no reason: ${error.code}`);
    },
    checkStep() {
      const admitted = admittedOpen();
      const textCount = textCountOf(admitted);
      must(
        admission.admittedTextCount === textCount,
        `${admission.admittedTextCount} texts admitted, ${textCount} open`,
      );
      const callers = new Set(admitted.flatMap(({ planned }) => planned.caller ?? []));
      must(admission.callerCount === callers.size, `${admission.callerCount} callers hold places`);
      const waiting = batcher.foreground.waitingTextCount;
      // Each of a caller queue's two queues keeps up to 64 departed texts.
      must(waiting <= 2 * textCount + 2 * 64, `${waiting} texts wait, ${textCount} are wanted`);
      for (const inference of network.inferences) {
        if (inference.isOpen) must(isWanted(inference), 'a batch runs that nobody waits for');
      }
      if (!load.isPeaceful) return;
      for (const { sentMs } of admitted) {
        must(clock.now() - sentMs <= workMs + 200, 'a text starves');
      }
    },
    checkEnd(plannedCount) {
      must(open.size === 0, `${open.size} requests were never settled`);
      must(admission.admittedTextCount === 0, 'texts are still admitted');
      must(admission.admittedTokenCount === 0, 'tokens are still admitted');
      must(batcher.batchesInFlight === 0, 'batches are still in flight');
      must(plannedCount === 0, `${plannedCount} timers are left`);
      for (const problem of network.problems) must(false, problem);
    },
    isOver: () => counts.sent === load.requests.length && open.size === 0,
    result: () => ({
      violations,
      answeredCount: counts.answered,
      refusedCount: counts.refused,
      failedCount: counts.failed,
    }),
  };
}
