/**
 * Faults that a simulation must see: each is planted alone into a copy of the sources, and seeds
 * are run until one of them fails. `bun scripts/sim/planted-faults-sim.ts` does so on demand.
 */
export interface PlantedFault {
  readonly name: string;
  /** Below `src`. */
  readonly file: string;
  /** Occurs in the file; the first place is replaced. */
  readonly from: string;
  readonly to: string;
  /** Which simulation must see it; `service-sim.ts` unless told. */
  readonly simulation?: 'background-sim.ts';
}

export const PLANTED_FAULTS: readonly PlantedFault[] = [
  {
    name: 'a permit gives back its texts, not its tokens',
    file: 'admission/admission.ts',
    from: 'to.tokenCount += sign * by.tokenCount;',
    to: 'to.tokenCount += sign > 0 ? by.tokenCount : 0;',
  },
  {
    name: 'a permit is not given back when the request fails',
    file: 'encode/encode.ts',
    from: '      permit.release();',
    to: '      if (cancellation.ended === undefined) permit.release();',
  },
  {
    name: 'a caller may hold any share of the queue',
    file: 'admission/admission.ts',
    from: 'max - OTHERS_PART * others',
    to: 'max',
  },
  {
    name: 'a caller that has left still counts as one',
    file: 'admission/admission.ts',
    from: 'if (caller !== undefined && own.textCount === 0) callers.delete(caller);',
    to: '',
  },
  {
    name: 'the limit of texts is off by one request',
    file: 'admission/admission.ts',
    from: 'const value = own[key] + demand[key];',
    to: 'const value = own[key];',
  },
  {
    name: 'rows are handed out one place further',
    file: 'vectors/output.ts',
    from: '? block.values(index * stride, stride)',
    to: '? block.values(((index + 1) % outputs.length) * stride, stride)',
  },
  {
    name: 'memory of rows is given to two requests',
    file: 'batcher/pending-request.ts',
    from: 'kept.get(length)?.pop()',
    to: 'kept.get(length)?.at(-1)',
  },
  {
    name: 'a departed caller is never told',
    file: 'batcher/micro-batcher.ts',
    from: 'if (request.abandon(reason)) onDeparted(request);',
    to: 'onDeparted(request);',
  },
  {
    name: 'a batch that nobody waits for runs on',
    file: 'batcher/micro-batcher.ts',
    from: 'abort.abort();',
    to: 'abort.signal;',
  },
  {
    name: 'texts of departed callers are sent all the same',
    file: 'batcher/queue.ts',
    from: 'if (text.request.isSettled) continue;',
    to: '',
  },
  {
    name: 'one batch more than there are slots',
    file: 'batcher/micro-batcher.ts',
    from: 'running.length + Math.max(0, settlingCount - 1) < limits.slotCount',
    to: 'running.length + Math.max(0, settlingCount - 1) <= limits.slotCount',
  },
  {
    name: 'padded tokens are not bounded',
    file: 'batcher/plan.ts',
    from: 'Math.min(limits.batchTextsMax, Math.max(1, Math.min(byShape, byDemand)))',
    to: 'limits.batchTextsMax',
  },
  {
    name: "a request's own limit of texts in a batch is not kept",
    file: 'batcher/queue.ts',
    from: 'request.waitingCount < request.batchTextsMax',
    to: 'request.waitingCount >= 0',
  },
  {
    name: 'texts over the limit of a batch are lost',
    file: 'batcher/queue.ts',
    from: 'for (const text of surplus.splice(0, count)) this.#insert(text);',
    to: 'this.#textCount -= surplus.splice(0).length;',
  },
  {
    name: 'nothing is dispatched when a batch has ended',
    file: 'batcher/micro-batcher.ts',
    from: '    dispatch();\n    if (isRight)',
    to: '    if (isRight)',
  },
  {
    name: 'a failed batch is not taken apart',
    file: 'batcher/bisection.ts',
    from: 'return [texts.slice(0, middle), texts.slice(middle)];',
    to: 'return [];',
  },
  {
    name: 'one half of a failed batch is forgotten',
    file: 'batcher/bisection.ts',
    from: 'return [texts.slice(0, middle), texts.slice(middle)];',
    to: 'return [texts.slice(0, middle)];',
  },
  {
    name: 'rows are not looked at',
    file: 'batcher/bisection.ts',
    from: 'faultOfOutput(outputs[index], texts[index].ids.length, expected)',
    to: 'undefined as string | undefined',
  },
  {
    name: 'a row that stands in a batch twice is believed',
    file: 'vectors/output.ts',
    from: 'if (!isShared) continue;',
    to: 'continue;',
  },
  {
    name: 'an endpoint with the rows of another model is used',
    file: 'backend/triton/triton-model.ts',
    from: 'if (cosine >= COSINE_MIN) return undefined;',
    to: 'return undefined;',
  },
  {
    name: 'a byte count is not held against its shape',
    file: 'backend/triton/triton-wire.ts',
    from: 'if (byteCount !== shapeCount * 4) {',
    to: 'if (byteCount > shapeCount * 4) {',
  },
  {
    name: 'a cancellation leaves its timer behind',
    file: 'base/clock.ts',
    from: '    this.#cancelTimer();\n',
    to: '',
  },
  {
    name: 'a batch that failed counts its time as work',
    file: 'batcher/micro-batcher.ts',
    from: 'if (isTelling && before.isFollowed && !isBackground) {',
    to: 'if (!isRight) drain.learn({ tokenCount: 0, inferMs, batchCount }); else if (before.isFollowed) {',
  },
  {
    name: 'the deadline of a request is not kept',
    file: 'encode/encode.ts',
    from: 'Math.min(leftMs, limits.requestTimeoutMs)',
    to: 'limits.requestTimeoutMs',
  },
  {
    name: 'what waits for a lost backend waits for ever',
    file: 'batcher/pacing.ts',
    from: "return this.#isClosed || isOver ? 'gone' : 'wait';",
    to: "return this.#isClosed ? 'gone' : 'wait';",
  },
  {
    name: 'departed texts are never swept',
    file: 'batcher/queue.ts',
    from: 'this.#departedCount += request.waitingCount;',
    to: '',
  },
  {
    name: 'a text that waits dies with the caller that brought it',
    file: 'batcher/row-cache.ts',
    from: 'this.#queueOf(heir.request).push(heir);',
    to: '',
  },
  {
    name: 'a text that runs dies with the caller that brought it',
    file: 'batcher/row-cache.ts',
    from: 'text.request = request;',
    to: '',
  },
  {
    name: 'equal texts are computed apart',
    file: 'batcher/row-cache.ts',
    from: 'if (!areSame(first, text)) return false;',
    to: 'return false;',
  },
  {
    name: 'a text that is more urgent than its equal is computed beside it',
    file: 'batcher/row-cache.ts',
    from: 'this.#queueOf(first.request).remove(first);',
    to: '',
  },
  {
    name: 'who went along with an equal text is never told',
    file: 'batcher/micro-batcher.ts',
    from: 'if (along === undefined) return;',
    to: 'return;',
  },
  {
    name: 'background texts are queued with all others',
    simulation: 'background-sim.ts',
    file: 'batcher/micro-batcher.ts',
    from: 'return isBackground ? background : queue;',
    to: 'return isBackground ? queue : queue;',
  },
  {
    name: 'background batches fill both slots',
    simulation: 'background-sim.ts',
    file: 'batcher/background.ts',
    from: 'roomCost -= this.#pacing.remainingCost(batch);',
    to: 'roomCost -= 0 * this.#pacing.remainingCost(batch);',
  },
  {
    name: 'a background batch is as large as any',
    simulation: 'background-sim.ts',
    file: 'batcher/background.ts',
    from: 'nowMs - this.#lastQueryMs >= QUIET_MS',
    to: 'nowMs >= this.#lastQueryMs',
  },
  {
    name: 'background texts behind queries starve for ever',
    simulation: 'background-sim.ts',
    file: 'batcher/background.ts',
    from: 'return this.#creditMs >= 0;',
    to: 'return this.#creditMs > 0;',
  },
  {
    name: 'each endpoint takes three background batches',
    simulation: 'background-sim.ts',
    file: 'batcher/background.ts',
    from: 'let roomCost = batchCost * limits.endpointCount;',
    to: 'let roomCost = 3 * batchCost * limits.endpointCount;',
  },
  {
    name: 'a background batch that passes queries is not paid for',
    simulation: 'background-sim.ts',
    file: 'batcher/background.ts',
    from: 'this.#creditMs - workMs, debtMax',
    to: 'this.#creditMs, debtMax',
  },
  {
    name: 'background texts that are done owe nothing',
    simulation: 'background-sim.ts',
    file: 'batcher/background.ts',
    from: 'this.#isWaiting = false;\n    this.#earn();',
    to: 'this.#isWaiting = false;\n    this.#creditMs = this.#debtMax;',
  },
  {
    name: 'a background batch beside which no query waited counts for nothing',
    simulation: 'background-sim.ts',
    file: 'batcher/background.ts',
    from: '-Math.min(workMs, this.#limits.delayMs)',
    to: '0',
  },
];
