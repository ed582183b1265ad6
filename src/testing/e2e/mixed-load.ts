import { systemClock } from '../../base/clock.ts';
import type { ReferenceIds } from '../reference-ids.ts';
import { type SeededRandom, seededRandom } from '../seeded-random.ts';
import { deterministicEmbedding, trivialEmbedding } from '../triton/deterministic-embedding.ts';
import { ASKINGS, type Asking, type KnownText, type Numbers, rowOf } from './route-askings.ts';

/**
 * A load of every route and format at once: requests of 1 to 300 texts, many of them equal, callers
 * that hang up and deadlines that pass at every stage. Each number of each reply is compared to the
 * last bit with what the trivial model gives to the text. A row of another text, of another
 * request's memory or at another's place is told.
 */

/** Rows of the trivial model's table; a multi-vector holds those after its text's own. */
const TABLE_ROWS = 997;

const MODEL_DIMENSION = 1024;

/** Texts of 1 to `wordCountMax` words, no two of one row, and the empty one. */
export async function knownTexts(options: {
  count: number;
  wordCountMax: number;
  idsOf: ReferenceIds;
  seed: number;
}): Promise<readonly KnownText[]> {
  const { count, wordCountMax, idsOf, seed } = options;
  const random = seededRandom(seed);
  const table = Array.from({ length: TABLE_ROWS }, (_, at) =>
    deterministicEmbedding([at], MODEL_DIMENSION),
  );
  const places = new Set<number>();
  const known: KnownText[] = [{ text: ' ', row: undefined, multiVector: new Float32Array(0) }];
  while (known.length < count) {
    const wordCount = Math.ceil(wordCountMax * (random.below(1000) / 1000) ** 3) + 1;
    const words = Array.from({ length: wordCount }, () => random.below(90_000) + 10);
    const text = words.join(' ');
    const ids = await idsOf(text);
    const place = ids.reduce((sum, id) => sum + id, 0) % TABLE_ROWS;
    if (places.has(place)) continue;
    places.add(place);
    const multiVector = new Float32Array((ids.length - 1) * MODEL_DIMENSION);
    for (let token = 1; token < ids.length; token++) {
      multiVector.set(table[(place + token) % TABLE_ROWS], (token - 1) * MODEL_DIMENSION);
    }
    known.push({ text, row: trivialEmbedding(ids, MODEL_DIMENSION), multiVector });
  }
  return known;
}

/** What became of a load. */
export interface LoadOutcome {
  readonly answered: number;
  readonly textCount: number;
  /** By status, and `gone` for callers who hung up. */
  readonly others: Readonly<Record<string, number>>;
  /** What was wrong; empty when nothing was. */
  readonly wrong: readonly string[];
}

/**
 * Sends so many requests, so many at a time.
 *
 * @param options.keys of callers, one of which each request has.
 */
export async function applyMixedLoad(options: {
  url: string;
  texts: readonly KnownText[];
  keys: readonly string[];
  requestCount: number;
  connectionCount: number;
  seed: number;
}): Promise<LoadOutcome> {
  const { url, texts, keys, requestCount, connectionCount, seed } = options;
  const random = seededRandom(seed);
  const others: Record<string, number> = {};
  const wrong: string[] = [];
  let [sent, answered, textCount] = [0, 0, 0];
  const count = (what: string): void => {
    others[what] = (others[what] ?? 0) + 1;
  };

  async function send(): Promise<void> {
    const asking = random.pick(ASKINGS);
    const asked = textsOf(asking, texts, random);
    const abort = new AbortController();
    const isHangUp = random.below(8) === 0;
    if (isHangUp) systemClock.schedule(random.below(25), () => abort.abort());
    try {
      const reply = await fetch(url + asking.path, {
        method: 'POST',
        body: JSON.stringify(asking.body(asked.map(({ text }) => text))),
        headers: headersOf(asking, { random, key: random.pick(keys) }),
        signal: abort.signal,
      });
      if (reply.status !== 200) {
        const said = await reply.text();
        count(String(reply.status));
        if (![429, 503, 504].includes(reply.status)) wrong.push(`${asking.path}: ${said}`);
        return;
      }
      const found = await asking.read(reply, asked.length);
      answered++;
      textCount += asked.length;
      const fault = faultOf(found, asked, asking);
      if (fault !== undefined) wrong.push(`${asking.path} ${asking.accept ?? ''}: ${fault}`);
    } catch (error) {
      if (!abort.signal.aborted) throw error;
      count('gone');
    }
  }

  async function sendOn(): Promise<void> {
    while (sent < requestCount) {
      sent++;
      await send();
    }
  }
  await Promise.all(Array.from({ length: connectionCount }, sendOn));
  return { answered, textCount, others, wrong };
}

/** Few texts mostly, and often the same ones: of 1,000 the first is every eleventh. */
function textsOf(
  { textsMax, empty, hasQuery }: Asking,
  known: readonly KnownText[],
  random: SeededRandom,
): readonly KnownText[] {
  const most = random.below(12) === 0 ? textsMax : Math.min(textsMax, 3);
  const count = random.between(1, most) + (hasQuery === true ? 1 : 0);
  const first = empty === undefined ? 1 : 0;
  return Array.from({ length: count }, () => {
    const at = Math.floor(known.length ** (random.below(10_000) / 10_000));
    return known[Math.max(first, at - 1)];
  });
}

function headersOf(
  { accept = 'application/json' }: Asking,
  { random, key }: { random: SeededRandom; key: string },
): Record<string, string> {
  const headers: Record<string, string> = { accept, authorization: `Bearer ${key}` };
  if (random.below(6) === 0) headers['x-timeout-ms'] = String(random.between(1, 50));
  if (random.below(6) === 0) headers['x-priority'] = 'background';
  if (random.below(10) === 0) headers['x-cache'] = 'bypass';
  return headers;
}

/** The first number that is not right. */
function faultOf(
  found: readonly Numbers[],
  asked: readonly KnownText[],
  { right = rowOf, tolerance = 0, empty, hasQuery }: Asking,
): string | undefined {
  const texts = hasQuery === true ? asked.slice(1) : asked;
  if (found.length !== texts.length) return `${found.length} answers for ${texts.length} texts`;
  for (const [index, known] of texts.entries()) {
    const values = found[index];
    if (known.row === undefined && empty === 'null') {
      if (values === null) continue;
      return `text ${index} of ${texts.length} is empty and has a row`;
    }
    const zeros = new Float32Array(MODEL_DIMENSION);
    const wanted = known.row === undefined ? zeros : right(known, asked[0]);
    const at = differenceOf(values ?? [], wanted, tolerance);
    if (at === undefined) continue;
    return `text ${index} of ${texts.length}, number ${at}: ${values?.[at]}, not ${wanted[at]}`;
  }
  return undefined;
}

function differenceOf(
  values: ArrayLike<number>,
  wanted: ArrayLike<number>,
  tolerance: number,
): number | undefined {
  if (values.length !== wanted.length) return Math.min(values.length, wanted.length);
  for (let at = 0; at < wanted.length; at++) {
    // A JSON number is the shortest that is read as this float32.
    const isRight =
      values[at] === wanted[at] ||
      Math.fround(values[at]) === wanted[at] ||
      Math.abs(values[at] - wanted[at]) < tolerance;
    if (!isRight) return at;
  }
  return undefined;
}
