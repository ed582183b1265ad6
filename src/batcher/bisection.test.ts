import { describe, expect, test } from 'bun:test';
import { ServerError } from '../base/errors.ts';
import { failed, float, harness, right, rowOf } from '../testing/bisection-harness.ts';

/**
 * Faults that were planted in the code by hand, and that this suite caught: halves that are never
 * tried; a budget that is not kept; the error of the batch given to a text that was saved; a
 * repetition on the endpoint that failed; a copied row that is let through; a death that is not
 * remembered; a canary that is never asked.
 */

describe('a batch whose rows are all right', () => {
  test('is done with before its texts are told', async () => {
    const it = harness((texts) => right(texts));
    expect(await it.run(it.texts(4))).toMatchObject({ isRight: true, toldCount: 0 });
  });

  test('and no other is: one bad row keeps the slot for its rescue', async () => {
    const it = harness((texts) => right(texts).map((row, at) => (at === 1 ? [0, 0] : row)));
    expect(await it.run(it.texts(4))).toMatchObject({ isRight: false, toldCount: 0 });
    expect(it.outcomes.size).toBe(4);
  });
});

describe('a batch that fails', () => {
  for (const bad of [0, 3, 30, 31]) {
    test(`text ${bad} of 32 gets the error, the others their rows, in bounded calls`, async () => {
      const it = harness((texts) => {
        if (texts.some((ids) => ids[1] === 10 + bad)) throw failed();
        return right(texts);
      });
      const all = it.texts(32);
      await it.run(all);
      for (const { name, ids } of all) {
        expect(it.outcomes.get(name)).toEqual(
          name === bad ? 'EMB_BACKEND_FAILED' : float(rowOf(ids)),
        );
      }
      expect(it.calls.length - 1).toBeLessThanOrEqual(2 * 5);
    });
  }

  test('all of it bad: every text is told, and the calls are bounded', async () => {
    const it = harness(() => {
      throw failed();
    });
    const { rescueCallCount, error } = await it.run(it.texts(32));
    expect(error?.code).toBe('EMB_BACKEND_FAILED');
    expect(it.outcomes.size).toBe(32);
    expect(rescueCallCount).toBeLessThanOrEqual(22);
  });

  test('with a second endpoint the whole batch is tried there first', async () => {
    let callCount = 0;
    const it = harness(
      (texts) => {
        if (callCount++ === 0) throw failed(false, 'one');
        return right(texts);
      },
      { endpointCount: 2 },
    );
    await it.run(it.texts(8));
    expect(it.calls).toEqual([
      { size: 8, avoid: undefined },
      { size: 8, avoid: 'one' },
    ]);
  });

  test('the way to the backend is not taken apart: the batch waits for it and goes whole', async () => {
    const it = harness(() => {
      throw new ServerError('EMB_BACKEND_UNAVAILABLE', 'gone');
    });
    await it.run(it.texts(8));
    expect(it.calls.map(({ size }) => size)).toEqual([8, 8]);
    expect([...it.outcomes.values()]).toEqual(Array(8).fill('EMB_BACKEND_UNAVAILABLE'));
  });

  test('nothing is tried on a backend that does not come back', async () => {
    const it = harness(() => {
      throw failed();
    });
    it.goDown();
    await it.run(it.texts(8));
    expect(it.calls).toHaveLength(1);
    expect([...it.outcomes.values()]).toEqual(Array(8).fill('EMB_BACKEND_UNAVAILABLE'));
  });

  test('texts that nobody waits for are not tried again', async () => {
    const it = harness(() => {
      for (const text of all.slice(0, 4)) text.request.isSettled = true;
      throw failed();
    });
    const all = it.texts(8);
    await it.run(all);
    expect(it.outcomes.size).toBe(8);
    expect(it.calls.every(({ size }, at) => at === 0 || size <= 4)).toBe(true);
  });
});

describe('rows', () => {
  test('a row that is bad once is asked again, the others leave at once', async () => {
    let isFirst = true;
    const it = harness((texts) => {
      const rows = right(texts);
      if (isFirst) rows[2] = [Number.NaN, 0];
      isFirst = false;
      return rows;
    });
    const all = it.texts(4);
    await it.run(all);
    expect(it.calls.map(({ size }) => size)).toEqual([4, 1]);
    expect(it.outcomes.get(2)).toEqual(float(rowOf(all[2].ids)));
  });

  test('one that stays bad is an error for its text alone', async () => {
    const it = harness((texts) => texts.map((ids) => (ids[1] === 12 ? [0, 0] : rowOf(ids))));
    await it.run(it.texts(4));
    expect(it.outcomes.get(2)).toBe('EMB_OUTPUT_INVALID');
    expect(it.outcomes.get(1)).toEqual(float(rowOf(Int32Array.of(0, 11, 2))));
  });

  test('a row written to two places never leaves', async () => {
    const it = harness((texts) => {
      const rows = right(texts);
      if (texts.length > 2) rows[3] = rows[1];
      return rows;
    });
    const all = it.texts(5);
    await it.run(all);
    for (const { name, ids } of all) expect(it.outcomes.get(name)).toEqual(float(rowOf(ids)));
  });

  test('a model that gives one row to everything gives none', async () => {
    const it = harness((texts) => texts.map(() => [1, 0]));
    await it.run(it.texts(2));
    expect([...it.outcomes.values()]).toEqual(['EMB_OUTPUT_INVALID', 'EMB_OUTPUT_INVALID']);
  });

  test('a coarse model is believed, and no longer doubted after a while', async () => {
    const coarse = (ids: Int32Array): number[] =>
      ids[1] === undefined || ids[1] < 9 ? [0, 1] : [1, 0];
    const it = harness((texts) => texts.map(coarse));
    const sizes: number[] = [];
    for (let round = 0; round < 5; round++) {
      it.outcomes.clear();
      it.calls.length = 0;
      await it.run(it.texts(2));
      expect([...it.outcomes.values()]).toEqual([
        [1, 0],
        [1, 0],
      ]);
      sizes.push(it.calls.length);
    }
    expect(sizes.at(-1)).toBe(1);
  });

  test('the same text twice in a batch is no copy', async () => {
    const it = harness(right);
    const [text] = it.texts(1);
    await it.run([text, { ...text, name: 1 }]);
    expect(it.calls).toHaveLength(1);
  });
});

describe('a text that kills', () => {
  test('is tried twice, then refused by hash', async () => {
    const it = harness(() => {
      throw failed(true);
    });
    const [text] = it.texts(1);
    await it.run([text]);
    expect(it.calls).toHaveLength(2);
    expect(it.outcomes.get(0)).toBe('EMB_BACKEND_FAILED');
    expect(it.quarantine.judge(text.ids)).toMatchObject({ code: 'EMB_TEXT_REFUSED' });
    expect(it.quarantine.judge(Int32Array.of(0, 99, 2))).toBe('unknown');
  });

  test('one whose worker was killed by something else gets its row, and is forgotten', async () => {
    let isFirst = true;
    const it = harness((texts) => {
      if (isFirst) {
        isFirst = false;
        throw failed(true);
      }
      return right(texts);
    });
    const [text] = it.texts(1);
    await it.run([text]);
    expect(it.outcomes.get(0)).toEqual(float(rowOf(text.ids)));
    expect(it.quarantine.isEmpty).toBe(true);
  });

  test('its company runs alone from then on, and is not refused', async () => {
    const it = harness(() => {
      throw failed(true);
    });
    const all = it.texts(4);
    await it.run(all);
    // Whole, then one half: what has killed twice is not tried a third time.
    expect(it.calls).toHaveLength(2);
    expect(it.outcomes.size).toBe(4);
    for (const { ids } of all) expect(it.quarantine.judge(ids)).toBe('alone');
  });
});
