import { createAdmission } from '../../admission/admission.ts';
import { ServerError } from '../../base/errors.ts';
import { createMicroBatcher } from '../../batcher/micro-batcher.ts';
import type { EncodeResult, Parts } from '../../encode/contract.ts';
import { createEncode } from '../../encode/encode.ts';
import type { TokenizedText, TokenizerPool } from '../../tokenizer/pool/tokenizer-pool.ts';
import { headSet } from '../../vectors/output.ts';
import { BACKGROUND } from '../batcher-harness.ts';
import { seededRandom } from '../seeded-random.ts';
import { VirtualClock } from '../virtual-clock.ts';
import { createServiceModel, type ServiceModel, type SimulationResult } from './service-model.ts';
import { type PlannedRequest, planLoad, type SimulatedLoad } from './simulated-load.ts';
import {
  createSimulatedBackend,
  createSimulatedNetwork,
  DIMENSION,
  MODEL,
} from './simulated-network.ts';

const REQUEST_TIMEOUT_MS = 60_000;
const STEP_MS = 5;

/** After the last arrival, all must be over by then: the longest deadline, and some. */
const STEPS_MAX = (REQUEST_TIMEOUT_MS * 2) / STEP_MS;

/**
 * Runs the whole journey behind the HTTP routes, on simulated servers and a virtual clock, through
 * one seeded load with its faults; a simple model beside it judges every step.
 */
export async function simulateService(seed: number): Promise<SimulationResult> {
  const load = planLoad(seededRandom(scattered(seed)));
  const clock = new VirtualClock();
  const { network, backend, batcher, admission, encode } = createService(load, clock);
  const model = createServiceModel({ load, clock, network, admission, batcher, backend });
  for (const planned of load.requests) {
    clock.schedule(planned.atMs, () => void send(planned, encode, model, clock));
  }
  for (const { atMs, serverIndex, mood } of load.moods) {
    clock.schedule(atMs, () => network.setMood(serverIndex, mood));
  }
  for (let step = 0; step < STEPS_MAX && !model.isOver(); step++) {
    // Steps grow once nothing arrives any more: a long deadline is not waited for in small ones.
    await clock.advance(step < 200 ? STEP_MS : STEP_MS * 20);
    model.checkStep();
  }
  batcher.close();
  await backend.close();
  await clock.advance(10_000);
  model.checkEnd(clock.plannedCount);
  return model.result();
}

/** The parts that are simulated, assembled as the server does it. */
function createService(load: SimulatedLoad, clock: VirtualClock) {
  const network = createSimulatedNetwork(clock, load);
  const { batchTextsMax, batchTokensMax } = load;
  const sizes = { batchTextsMax, batchTokensMax };
  const backend = createSimulatedBackend(network, { clock, probeMs: 100, ...sizes });
  const batcher = createMicroBatcher({
    backend,
    expected: { dimension: DIMENSION, isNormalized: true },
    clock,
    lingerMs: 0,
    // As the settings have it.
    holdShare: 0.5,
    background: BACKGROUND,
    graceMs: 500,
    tokenCountMax: 512,
  });
  const { textCountMax, tokenCountMax } = load;
  const timeoutMs = REQUEST_TIMEOUT_MS;
  const limits = { clock, textCountMax, tokenCountMax, timeoutMs };
  const admission = createAdmission({ ...limits, backlog: batcher.foreground });
  const backgroundAdmission = createAdmission({ ...limits, backlog: batcher.background });
  const manifest = {
    id: MODEL,
    dimension: DIMENSION,
    tokenCountMax: 512,
    prefixes: { query: '', passage: '' },
  };
  const encode = createEncode({
    admission,
    backgroundAdmission,
    tokenizer,
    vocabulary: undefined,
    batcher,
    backend,
    manifest,
    clock,
    limits: { requestTimeoutMs: REQUEST_TIMEOUT_MS, emptyTexts: 'encode', textCharactersMax: 1e6 },
  } as unknown as Parts);
  return { network, backend, batcher, admission, encode };
}

/**
 * Neighbouring seeds give alike first numbers, all of them low; by Knuth's multiplier they do not.
 */
function scattered(seed: number): number {
  return Math.imul(seed, 2_654_435_761) >>> 0;
}

async function send(
  planned: PlannedRequest,
  encode: (request: Parameters<ReturnType<typeof createEncode>>[0]) => Promise<EncodeResult>,
  model: ServiceModel,
  clock: VirtualClock,
): Promise<void> {
  const controller = new AbortController();
  const open = model.sent(planned);
  if (planned.hangUpMs !== undefined) {
    clock.schedule(planned.hangUpMs - clock.now(), () => {
      open.hasHungUp = true;
      controller.abort();
    });
  }
  try {
    const reply = encode({
      // Spelled out, so that the length of a text is its length in characters too.
      texts: planned.texts.map((ids) => ids.join(' ')),
      heads: headSet(['dense']),
      inputType: 'query',
      truncate: true,
      batchTextsMax: planned.batchTextsMax,
      valueCountMax: 1e9,
      timeoutMs: planned.timeoutMs,
      signal: controller.signal,
      caller: planned.caller,
      fieldOf: (index) => `query[${index}]`,
    });
    model.admitted(open);
    const result = await reply;
    model.answered(open, result);
    result.giveBack();
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    model.failed(open, error);
  }
}

/** Texts are their ids, spelled out. */
const tokenizer = {
  reason: '',
  async tokenize(texts: readonly string[]): Promise<TokenizedText[]> {
    return texts.map((text) => {
      const tokenIds = Int32Array.from(text.split(' '), Number);
      return { tokenIds, tokenCount: tokenIds.length, isTruncated: false };
    });
  },
} as unknown as TokenizerPool;
