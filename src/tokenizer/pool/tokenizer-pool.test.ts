import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { type Cancellation, createCancellation } from '../../base/clock.ts';
import type { ServerError } from '../../base/errors.ts';
import { createLog } from '../../base/log.ts';
import { seededRandom } from '../../testing/seeded-random.ts';
import { createSmallTokenizer } from '../../testing/small-tokenizer.ts';
import { until } from '../../testing/until.ts';
import { VirtualClock } from '../../testing/virtual-clock.ts';
import { SCRIPTED, scriptedIds } from '../../testing/workers/scripted-tokenizer.ts';
import { compileTokenizer } from '../compiler/compile-tokenizer.ts';
import { createTokenizerPool, type TokenizerPool } from './tokenizer-pool.ts';
import type { TokenizerInit } from './tokenizer-protocol.ts';

/**
 * The pool over real workers whose tokenizer does what a text tells it. Restarts and deadlines are
 * on a virtual clock.
 *
 * Faults that were planted in the code by hand, and that this suite caught: rows given in the
 * order of the message; the wrong side cut; work for the busiest; a load that never falls; a death
 * or an end that nobody is told of; texts sent that nobody waits for; a turn whose
 * short texts have no bound; one that never ends; long texts that count as little as short ones.
 */

const WORKER = new URL('../../testing/workers/scripted-tokenizer.ts', import.meta.url);
const TOKEN_COUNT_MAX = 50;

let clock: VirtualClock;
let pool: TokenizerPool;

async function open(
  options: {
    workerCount?: number;
    modelId?: string;
    init?: TokenizerInit;
    inlineUnitsMax?: number;
  } = {},
): Promise<void> {
  pool = createTokenizerPool({
    workerCount: options.workerCount ?? 2,
    workerUrl: WORKER,
    init: options.init ?? {
      kind: 'transformers.js',
      modelsDir: '',
      modelId: options.modelId ?? 'good',
    },
    tokenCountMax: TOKEN_COUNT_MAX,
    inlineUnitsMax: options.inlineUnitsMax ?? 0,
    startMsMax: 10_000,
    restartsMax: 2,
    clock,
    log: createLog({ level: 'error', write: () => undefined }),
  });
}

beforeEach(async () => {
  clock = new VirtualClock();
  await open();
  await pool.started;
});

afterEach(() => pool.close());

function lifetime(timeoutMs = 1e9, signal?: AbortSignal): Cancellation {
  return createCancellation({ clock, timeoutMs, signal });
}

type Outcome = readonly (readonly number[])[] | string;

/** The ids of each text, or the error's code. */
function tokenize(texts: readonly string[], life = lifetime()): Promise<Outcome> {
  return Promise.resolve(pool.tokenize(texts, life)).then(
    (tokenized) => tokenized.map(({ tokenIds }) => [...tokenIds]),
    (error: ServerError) => error.code,
  );
}

/** Lets the turn end, so that what was gathered leaves. */
async function settled<Value>(promise: Value | Promise<Value>): Promise<Value> {
  await clock.settle();
  return await promise;
}

/** Lets time pass until there is an outcome. */
async function inTime<Value>(promise: Promise<Value>): Promise<Value> {
  let isOver = false;
  void promise.finally(() => {
    isOver = true;
  });
  await until('it has an outcome', async () => {
    await clock.advance(10);
    return isOver;
  });
  return await promise;
}

async function untilUp(): Promise<void> {
  await until('a worker runs', async () => {
    await clock.advance(10);
    return pool.reason === '';
  });
}

describe('texts', () => {
  test('of many requests in one turn get their own ids, in their own order', async () => {
    const random = seededRandom(6);
    const requests = Array.from({ length: 60 }, (_, request) =>
      Array.from({ length: random.between(1, 9) }, (_text, index) =>
        `${request}.${index} `.repeat(random.between(1, 5)),
      ),
    );
    const outcomes = await settled(Promise.all(requests.map((texts) => tokenize(texts))));
    const right = requests.map((texts) =>
      texts.map((text) => scriptedIds(text).slice(0, TOKEN_COUNT_MAX)),
    );
    expect(outcomes).toEqual(right);
  });

  test('that are cut say so, at the side that was asked for', async () => {
    const text = 'а'.repeat(30) + 'б'.repeat(30);
    const [end, start, short] = await settled(
      Promise.all([
        pool.tokenize([text], lifetime()),
        pool.tokenize([text], lifetime(), 'left'),
        pool.tokenize(['в'], lifetime()),
      ]),
    );
    expect(end[0]).toMatchObject({ tokenCount: 62, isTruncated: true });
    expect([...end[0].tokenIds]).toEqual(scriptedIds(text).slice(0, TOKEN_COUNT_MAX));
    expect([...start[0].tokenIds]).toEqual(scriptedIds(text).slice(-TOKEN_COUNT_MAX));
    expect(short[0]).toMatchObject({ tokenCount: 3, isTruncated: false });
  });

  test('longer than a message go through, beside short ones', async () => {
    const texts = ['x'.repeat(200_000), 'y', 'z'.repeat(70_000), ''];
    const outcome = await settled(tokenize(texts));
    const right = texts.map((text) => scriptedIds(text).slice(0, TOKEN_COUNT_MAX));
    expect(outcome).toEqual(right);
  });
});

describe('work', () => {
  /** Which worker tokenized a text of so many units. */
  async function whoTakes(units: number): Promise<number | undefined> {
    const [{ tokenIds }] = await settled(pool.tokenize([SCRIPTED.who.padEnd(units)], lifetime()));
    return tokenIds[1];
  }

  test('goes to the worker with the least of it', async () => {
    const kept = tokenize([SCRIPTED.keep.repeat(100)]);
    await clock.settle();
    const takers: (number | undefined)[] = [];
    for (let text = 0; text < 6; text++) takers.push(await whoTakes(300));
    expect(new Set(takers).size).toBe(1);
    pool.close();
    expect(await kept).toBe('EMB_TOKENIZER_FAILED');
  });

  test('of one turn is shared, also by one that has died in between', async () => {
    const killed = tokenize([SCRIPTED.kill.repeat(1000)]);
    expect(await inTime(killed)).toBe('EMB_TOKENIZER_FAILED');
    await untilUp();
    await until('both run again', async () => {
      await clock.advance(10);
      const pair = await settled(pool.tokenize([SCRIPTED.who, SCRIPTED.who], lifetime()));
      return pair[0].tokenIds[1] !== pair[1].tokenIds[1];
    });
  });
});

describe('a worker that dies', () => {
  test('of a text takes nobody along: the others are tokenized by another', async () => {
    pool.close();
    await open({ workerCount: 1 });
    await pool.started;
    const killed = tokenize([SCRIPTED.kill]);
    const others = ['б', 'вв'].map((text) => tokenize([text]));
    expect(await inTime(Promise.all(others))).toEqual([[scriptedIds('б')], [scriptedIds('вв')]]);
    expect(await inTime(killed)).toBe('EMB_TOKENIZER_FAILED');
    await untilUp();
    expect(await settled(tokenize(['а']))).toEqual([scriptedIds('а')]);
  });

  test('does not count against texts that wait behind the one that ends it', async () => {
    pool.close();
    await open({ workerCount: 1 });
    await pool.started;
    // The shortest is first, in the message of all and when each is tried again alone.
    const killed = tokenize([SCRIPTED.kill]);
    const others = ['б', 'в', 'г', 'д'].map((letter) => letter.repeat(9));
    const outcomes = others.map((text) => tokenize([text]));
    const right = others.map((text) => [scriptedIds(text)]);
    expect(await inTime(Promise.all(outcomes))).toEqual(right);
    expect(await inTime(killed)).toBe('EMB_TOKENIZER_FAILED');
  });

  test('with all its fellows is told by the pool, until one is back', async () => {
    pool.close();
    await open({ workerCount: 1 });
    await pool.started;
    const killed = tokenize([SCRIPTED.kill]);
    expect(await inTime(killed)).toBe('EMB_TOKENIZER_FAILED');
    expect(pool.reason).not.toBe('');
    expect(await inTime(tokenize(['а']))).toEqual([scriptedIds('а')]);
    expect(pool.reason).toBe('');
    expect(await settled(tokenize(['а']))).toEqual([scriptedIds('а')]);
  });

  test('as it starts is not started for ever, and the reason says why', async () => {
    pool.close();
    await open({ modelId: 'broken' });
    // Of several workers one may give up long before the last.
    let isSettled = false;
    void pool.started.then(() => {
      isSettled = true;
    });
    await until('the pool gives up', async () => {
      await clock.advance(100);
      return isSettled;
    });
    expect(pool.reason).toContain('was started');
    expect(pool.reason).toContain('tokenizer.json is broken');
    expect(pool.ready).toBeUndefined();
    expect(await inTime(tokenize(['а']))).toBe('EMB_TOKENIZER_FAILED');
  });
});

describe('a request', () => {
  test('whose texts fail in a worker that lives is told, and others are not', async () => {
    // Sent one after the other: texts of one turn share a message, and its fate.
    const failed = await settled(tokenize(['а', SCRIPTED.fail]));
    expect(failed).toBe('EMB_TOKENIZER_FAILED');
    expect(await settled(tokenize(['б']))).toEqual([scriptedIds('б')]);
  });

  test('that nobody waits for is let go at once, at its deadline or when its caller leaves', async () => {
    const late = tokenize([SCRIPTED.keep], lifetime(50));
    const controller = new AbortController();
    const left = tokenize([SCRIPTED.keep], lifetime(1e9, controller.signal));
    await clock.advance(49);
    controller.abort();
    expect(await left).toBe('EMB_REQUEST_ABORTED');
    await clock.advance(1);
    expect(await late).toBe('EMB_DEADLINE_EXCEEDED');
  });

  test('that was over before its turn ended is never sent', async () => {
    pool.close();
    await open({ workerCount: 1 });
    await pool.started;
    const controller = new AbortController();
    const left = tokenize([SCRIPTED.kill], lifetime(1e9, controller.signal));
    controller.abort();
    expect(await settled(left)).toBe('EMB_REQUEST_ABORTED');
    expect(await settled(tokenize(['а']))).toEqual([scriptedIds('а')]);
    expect(pool.reason).toBe('');
  });

  test('to look at texts is not sent when its turn comes and nobody waits', async () => {
    pool.close();
    await open({ workerCount: 1 });
    await pool.started;
    const controller = new AbortController();
    const most = { tokenCountMax: 9, specialTokens: true };
    const look = (text: string, life = lifetime()) => pool.explain([text], life, most);
    // Two are at the worker at once; the third would end it.
    const sent = [look('а'), look('б')];
    const left = look(SCRIPTED.kill, lifetime(1e9, controller.signal));
    controller.abort();
    expect(await left.catch((error: ServerError) => error.code)).toBe('EMB_REQUEST_ABORTED');
    await Promise.all([...sent, look('в')]);
  });

  test('after the end is refused, and one in work is told', async () => {
    const inWork = tokenize([SCRIPTED.keep]);
    await clock.settle();
    const gathered = tokenize(['а']);
    pool.close();
    expect(await inWork).toBe('EMB_TOKENIZER_FAILED');
    expect(await settled(gathered)).toBe('EMB_TOKENIZER_FAILED');
    expect(await settled(tokenize(['а']))).toBe('EMB_TOKENIZER_FAILED');
    expect(pool.reason).toContain('closed');
  });
});

describe('this thread', () => {
  /** Whether the texts were tokenized here and now. */
  const isHere = (texts: readonly string[]): boolean => {
    const tokenized = pool.tokenize(texts, lifetime());
    if (!(tokenized instanceof Promise)) return true;
    tokenized.catch(() => undefined);
    return false;
  };
  const texts = (count: number, units: number): string[] =>
    Array.from({ length: count }, () => 'a'.repeat(units));

  beforeEach(async () => {
    pool.close();
    const file = compileTokenizer(createSmallTokenizer().bytes());
    const tables = new SharedArrayBuffer(file.length);
    new Uint8Array(tables).set(file);
    await open({ init: { kind: 'compiled', tables }, inlineUnitsMax: 1000 });
    await pool.started;
  });

  test('tokenizes short texts, which cost no less in a message, up to what one may have', async () => {
    expect(isHere(texts(1000, 64))).toBe(true);
    expect(isHere(texts(24, 64))).toBe(true);
    expect(isHere(['a'])).toBe(false);
    await clock.settle();
    expect(isHere(texts(1024, 64))).toBe(true);
  });

  test('tokenizes longer texts up to its limit in one turn', async () => {
    expect(isHere(texts(2, 64 + 501))).toBe(false);
    expect(isHere(texts(2, 64 + 500))).toBe(true);
    expect(isHere(['a'.repeat(65)])).toBe(false);
    expect(isHere(['a'.repeat(64)])).toBe(true);
    await clock.settle();
    expect(isHere(['a'.repeat(64 + 1000)])).toBe(true);
  });
});
