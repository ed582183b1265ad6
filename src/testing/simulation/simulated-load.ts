import type { SeededRandom } from '../seeded-random.ts';
import { KILLER_ID, POISON_ID, type ServerMood } from './simulated-network.ts';

/** A request that will be sent. */
export interface PlannedRequest {
  readonly atMs: number;
  readonly texts: readonly Int32Array[];
  readonly caller: string | undefined;
  readonly timeoutMs: number;
  /** Whether its deadline may well pass. */
  readonly isHurried: boolean;
  readonly batchTextsMax: number | undefined;
  /** When the caller hangs up; undefined for never. */
  readonly hangUpMs: number | undefined;
  /** Whether a text of it is bad for servers. */
  readonly isPoisoned: boolean;
  /** It comes when nothing else is there, and is far below any limit: it must be admitted. */
  readonly isCalm?: boolean;
}

/** A change of a server's mood. */
export interface PlannedMood {
  readonly atMs: number;
  readonly serverIndex: number;
  readonly mood: ServerMood;
}

/** A whole run, decided beforehand. */
export interface SimulatedLoad {
  readonly serverCount: number;
  readonly textCountMax: number;
  readonly tokenCountMax: number;
  readonly batchTextsMax: number;
  readonly batchTokensMax: number;
  readonly requests: readonly PlannedRequest[];
  readonly moods: readonly PlannedMood[];
  /** No server is ever unwell, nobody is in a hurry, no text is bad. */
  readonly isPeaceful: boolean;
}

const MOODS: readonly ServerMood[] = [
  'slow',
  'hung',
  'half-open',
  'dead',
  'dead',
  'crashed',
  'busy',
  'other-model',
  'nan-rows',
  'short-rows',
  'copied-rows',
  'empty',
];

/** A restart takes at least so long, in ms: more than the time between two probes. */
const RESTART_MS_MIN = 120;

/** Bad texts of a run: so many can always be told from the others within the bound of calls. */
const BAD_TEXTS_MAX = 2;

/** One run in so many is an abandoned wave. */
const WAVES = 6;

/** A burst, a crowd, a trickle, an exodus or an abandoned wave. */
export function planLoad(random: SeededRandom): SimulatedLoad {
  return random.below(WAVES) === 0 ? planWave(random) : planCrowd(random);
}

/**
 * Callers with long texts leave before much of it is done, on servers that may hang meanwhile. Once
 * nothing is left, a handful of others come with short ones.
 */
function planWave(random: SeededRandom): SimulatedLoad {
  const isPeaceful = random.below(2) === 0;
  const serverCount = random.between(1, 2);
  const plan = (index: number, of: Partial<PlannedRequest> & { length: number }) => {
    const texts = Array.from({ length: 16 }, (_, text) => {
      const ids = new Int32Array(of.length).fill(2);
      ids[0] = 1000 + index * 32 + text;
      ids[1] = random.between(10, 500);
      return ids;
    });
    const bounds = { isHurried: false, timeoutMs: 60_000, isPoisoned: false };
    const free = { batchTextsMax: undefined, hangUpMs: undefined, caller: undefined };
    return { atMs: 50, texts, ...bounds, ...free, ...of };
  };
  const leaveMs = random.between(300, 3000);
  const wave = Array.from({ length: 24 }, (_, index) =>
    plan(index, { length: 120, hangUpMs: leaveMs + 20 * (index >> 2) }),
  );
  const calm = Array.from({ length: 16 }, (_, index) =>
    plan(24 + index, { length: 9, atMs: leaveMs + 4000 + 2 * index, isCalm: true }),
  );
  const moods = Array.from({ length: isPeaceful ? 0 : serverCount }, (_, serverIndex) => [
    { atMs: random.between(51, 200), serverIndex, mood: 'hung' as const },
    { atMs: leaveMs + 500, serverIndex, mood: 'well' as const },
  ]).flat();
  const limits = { textCountMax: 1000, tokenCountMax: 100_000 };
  const batches = { batchTextsMax: random.pick([8, 32]), batchTokensMax: 4096 };
  return { serverCount, ...limits, ...batches, requests: [...wave, ...calm], moods, isPeaceful };
}

/** On one to three servers; in peace or not. */
function planCrowd(random: SeededRandom): SimulatedLoad {
  const isPeaceful = random.below(3) === 0;
  const serverCount = random.between(1, 3);
  const kind = random.pick(['burst', 'crowd', 'trickle', 'exodus'] as const);
  const count = { burst: 12, crowd: 24, trickle: 8, exodus: 24 }[kind];
  const gapMs = { burst: 0, crowd: 6, trickle: 60, exodus: 0 }[kind];
  const bad = { left: isPeaceful ? 0 : random.below(BAD_TEXTS_MAX + 1) };
  const requests: PlannedRequest[] = [];
  const known: Int32Array[] = [];
  for (let index = 0, atMs = 50; index < count; index++) {
    atMs += gapMs === 0 ? 0 : random.below(2 * gapMs);
    const request = planRequest(random, { atMs, isPeaceful, bad, index, known });
    known.push(...request.texts.filter((ids) => ids[1] !== KILLER_ID && ids[1] !== POISON_ID));
    // All but a few leave at once, when most of what they sent still waits.
    const leaves = kind === 'exodus' && index % 8 > 0;
    requests.push(leaves ? { ...request, hangUpMs: 60 } : request);
  }
  const moods: PlannedMood[] = [];
  for (let serverIndex = 0; !isPeaceful && serverIndex < serverCount; serverIndex++) {
    let atMs: number | undefined = 50;
    for (let change = random.below(3); change > 0 && atMs !== undefined; change--) {
      atMs = planTrouble(random, { serverIndex, atMs: atMs + random.below(200), moods });
    }
  }
  const textCountMax = random.pick([20, 60, 1000]);
  const batchTextsMax = random.pick([2, 8, 32]);
  const batchTokensMax = random.pick([64, 512, 4096]);
  const limits = { textCountMax, tokenCountMax: 100_000, batchTextsMax, batchTokensMax };
  return { serverCount, ...limits, requests, moods, isPeaceful };
}

/**
 * One trouble of a server, and its end, if it has one. Another model takes a restart, both ways,
 * and no server restarts faster than an idle one is asked.
 *
 * @returns when it is over; undefined for never.
 */
function planTrouble(
  random: SeededRandom,
  how: { serverIndex: number; atMs: number; moods: PlannedMood[] },
): number | undefined {
  const { serverIndex, moods } = how;
  let { atMs } = how;
  const mood = random.pick(MOODS);
  const restart = (): void => {
    if (mood !== 'other-model') return;
    moods.push({ atMs, serverIndex, mood: 'dead' });
    atMs += random.between(RESTART_MS_MIN, 300);
  };
  restart();
  moods.push({ atMs, serverIndex, mood });
  atMs += random.between(5, 600);
  if (random.below(5) === 0) return undefined;
  restart();
  moods.push({ atMs, serverIndex, mood: 'well' });
  return atMs;
}

function planRequest(
  random: SeededRandom,
  how: {
    atMs: number;
    isPeaceful: boolean;
    bad: { left: number };
    index: number;
    /** Texts of earlier requests: some come again. */
    known: readonly Int32Array[];
  },
): PlannedRequest {
  const { atMs, isPeaceful, bad, index, known } = how;
  const textCount = random.pick([1, 1, 1, 2, 5, 16]);
  let isPoisoned = false;
  const texts = Array.from({ length: textCount }, (_, text) => {
    if (known.length > 0 && random.below(3) === 0) return random.pick(known).slice();
    const length = random.pick([3, 5, 9, 9, 30, 120]);
    const ids = new Int32Array(length).fill(2);
    // No two of them are alike, unless they are meant to be.
    ids[0] = 1000 + index * 32 + (random.below(20) === 0 ? 0 : text);
    ids[1] = random.between(10, 500);
    if (bad.left > 0 && random.below(12) === 0) {
      bad.left--;
      isPoisoned = true;
      ids[1] = random.below(4) === 0 ? KILLER_ID : POISON_ID;
    }
    return ids;
  });
  const isHurried = !isPeaceful && random.below(4) === 0;
  const hangsUp = random.below(5) === 0;
  return {
    atMs,
    texts,
    caller: random.pick([undefined, 'a', 'a', 'b', 'c']),
    isHurried,
    timeoutMs: isHurried ? random.between(1, 400) : 60_000,
    batchTextsMax: random.below(4) === 0 ? random.between(1, 4) : undefined,
    hangUpMs: hangsUp ? atMs + random.below(200) : undefined,
    isPoisoned,
  };
}
