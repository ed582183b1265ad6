import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import type { Backend, BatchOutput, TokenBatch } from '../../backend/contract.ts';
import { ServerError } from '../../base/errors.ts';
import { headSet } from '../../vectors/output.ts';
import { seededRandom } from '../seeded-random.ts';
import { until } from '../until.ts';

/** A backend that the contract is held against. */
export interface BackendCase {
  readonly name: string;
  readonly dimension: number;
  /** The longest text that it takes. */
  readonly tokenCountMax: number;
  /**
   * How much a row may differ, per component, from the same text's row in another batch. 0 compares
   * bytes. A backend that computes in floating point rounds otherwise for another shape.
   */
  readonly tolerance: number;
  /** The row that must come out, by an independent computation, where there is one. */
  readonly rowOf?: (ids: Int32Array) => Float32Array;
  /** Called once for the suite, and once more by each test that closes its backend. */
  open(): Promise<{ readonly backend: Backend; close(): Promise<void> }>;
}

const VOCABULARY = 250_002;
const DENSE = headSet(['dense']);

/** Everything that the batcher and the journey rely on, for any backend. */
export function describeBackendContract(subject: BackendCase): void {
  const { dimension, tokenCountMax, tolerance } = subject;
  const random = seededRandom(20_240_607);
  let opened: Awaited<ReturnType<BackendCase['open']>>;
  let backend: Backend;

  const textOf = (tokenCount: number): Int32Array =>
    Int32Array.from({ length: tokenCount }, (_, index) => {
      if (index === 0) return 0;
      return index === tokenCount - 1 ? 2 : random.between(4, VOCABULARY - 1);
    });
  const textsOf = (count: number, longest: number): Int32Array[] =>
    Array.from({ length: count }, () =>
      textOf(random.between(2, Math.min(longest, tokenCountMax))),
    );

  async function rowsOf(texts: readonly Int32Array[], extraLength = 0): Promise<Float32Array[]> {
    return rowsIn(await backend.infer(batchOf(backend, texts, extraLength)), texts.length);
  }

  function rowsIn({ dense }: BatchOutput, textCount: number): Float32Array[] {
    expect(dense?.length).toBe(textCount * dimension);
    return Array.from({ length: textCount }, (_, row) =>
      Float32Array.from(dense?.values(row * dimension, dimension) ?? []),
    );
  }

  function expectSame(row: Float32Array, wanted: Float32Array): void {
    if (tolerance === 0) expect(bytesOf(row).equals(bytesOf(wanted))).toBe(true);
    else expect(largestDifference(row, wanted)).toBeLessThanOrEqual(tolerance);
  }

  describe(`backend contract: ${subject.name}`, () => {
    beforeAll(async () => {
      opened = await subject.open();
      backend = opened.backend;
      await until(`${subject.name} is ready`, () => backend.state().isReady);
    });
    afterAll(async () => {
      await opened?.close();
    });

    test('a ready backend gives no reason, and bounds for everything', () => {
      const limits = backend.capabilities();
      expect(backend.state()).toEqual({ isReady: true, reason: '' });
      for (const bound of [limits.slotCount, limits.batchTextsMax, limits.batchTokensMax]) {
        expect(Number.isInteger(bound) && bound > 0).toBe(true);
      }
      expect(Number.isFinite(limits.launchTokens) && limits.launchTokens >= 0).toBe(true);
    });

    test('a text has a finite row of the right length, and of norm 1', async () => {
      const [row] = await rowsOf([textOf(17)]);
      expect(row.length).toBe(dimension);
      expect(row.every(Number.isFinite)).toBe(true);
      expect(Math.abs(Math.hypot(...row) - 1)).toBeLessThan(1e-5);
    });

    test('the shortest and the longest text have rows', async () => {
      for (const tokenCount of [1, 2, tokenCountMax]) {
        const [row] = await rowsOf([textOf(tokenCount)]);
        expect(Math.abs(Math.hypot(...row) - 1)).toBeLessThan(1e-5);
      }
    });

    test('unlike texts have unlike rows, the same text the same row', async () => {
      const [text, other] = textsOf(2, 40);
      const [row] = await rowsOf([text]);
      const [again] = await rowsOf([text]);
      const [unlike] = await rowsOf([other]);
      expectSame(again, row);
      expect(largestDifference(unlike, row)).toBeGreaterThan(1e-3);
    });

    test('padding changes nothing', async () => {
      const text = textOf(11);
      const [exact] = await rowsOf([text]);
      for (const extra of [1, 5, 53]) expectSame((await rowsOf([text], extra))[0], exact);
    });

    test('batch mates change nothing, and each text gets its own row', async () => {
      const texts = textsOf(24, 60);
      const alone: Float32Array[] = [];
      for (const text of texts) alone.push((await rowsOf([text]))[0]);
      const size = Math.min(8, backend.capabilities().batchTextsMax);
      const mixed = texts.map((_, index) => (index * 7) % texts.length);
      for (let from = 0; from < mixed.length; from += size) {
        const picked = mixed.slice(from, from + size);
        const rows = await rowsOf(picked.map((index) => texts[index]));
        for (const [at, index] of picked.entries()) expectSame(rows[at], alone[index]);
      }
    });

    test('batches side by side do not mix, and a row stays what it was', async () => {
      const texts = textsOf(30, 60);
      const alone: Float32Array[] = [];
      for (const text of texts) alone.push((await rowsOf([text]))[0]);
      const outputs = await Promise.all(
        texts.map((text) => backend.infer(batchOf(backend, [text], 0))),
      );
      for (const [index, output] of outputs.entries()) {
        expectSame(rowsIn(output, 1)[0], alone[index]);
      }
    });

    test('the largest batch it asks for goes through', async () => {
      const { batchTextsMax, batchTokensMax } = backend.capabilities();
      const rows = await rowsOf(
        textsOf(batchTextsMax, Math.max(2, Math.floor(batchTokensMax / batchTextsMax))),
      );
      expect(rows.length).toBe(batchTextsMax);
    });

    test('token ids are only borrowed', async () => {
      const texts = textsOf(Math.min(3, backend.capabilities().batchTextsMax), 30);
      const before = texts.map((text) => text.slice());
      await rowsOf(texts);
      expect(texts).toEqual(before);
    });

    if (subject.rowOf !== undefined) {
      const { rowOf } = subject;
      test('rows equal an independent computation', async () => {
        for (const count of [1, 2, backend.capabilities().batchTextsMax]) {
          const texts = textsOf(count, 200);
          const rows = await rowsOf(texts);
          for (const [index, text] of texts.entries()) expectSame(rows[index], rowOf(text));
        }
      });
    }

    test('a closed backend says so, twice closed too, and settles every call', async () => {
      const other = await subject.open();
      try {
        await until('the second one is ready', () => other.backend.state().isReady);
        const running = other.backend.infer(batchOf(other.backend, [textOf(60)], 0));
        const settled = running.then(
          () => 'a row',
          (error: unknown) => error,
        );
        await other.backend.close();
        await other.backend.close();
        const outcome = await settled;
        if (outcome !== 'a row') expect(outcome).toBeInstanceOf(ServerError);
        expect(other.backend.state().isReady).toBe(false);
        expect(other.backend.state().reason).not.toBe('');
        const late = other.backend.infer(batchOf(other.backend, [textOf(5)], 0));
        await expect(late).rejects.toBeInstanceOf(ServerError);
        await expect(late).rejects.toMatchObject({ code: 'EMB_BACKEND_UNAVAILABLE' });
      } finally {
        await other.close();
      }
    });
  });
}

/**
 * A batch as the micro-batcher would send it: a backend that wants exact lengths never sees more.
 */
function batchOf(backend: Backend, texts: readonly Int32Array[], extraLength: number): TokenBatch {
  const longest = Math.max(...texts.map((text) => text.length));
  const { isOneByOne } = backend.capabilities();
  const paddedLength = isOneByOne ? longest : longest + extraLength;
  return { texts, paddedLength, heads: DENSE };
}

function bytesOf(row: Float32Array): Buffer {
  return Buffer.from(row.buffer, row.byteOffset, row.byteLength);
}

function largestDifference(a: Float32Array, b: Float32Array): number {
  return a.reduce((largest, value, index) => Math.max(largest, Math.abs(value - b[index])), 0);
}
