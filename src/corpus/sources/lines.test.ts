import { describe, expect, test } from 'bun:test';
import { seededRandom } from '../../testing/seeded-random.ts';
import { type Line, linesOf } from './lines.ts';

async function* pieces(bytes: Uint8Array, size: () => number): AsyncGenerator<Uint8Array> {
  for (let from = 0; from < bytes.length; ) {
    const to = Math.min(bytes.length, from + size());
    yield bytes.slice(from, to);
    from = to;
  }
}

async function linesIn(bytes: Uint8Array, size: () => number, start = 0): Promise<Line[]> {
  const lines: Line[] = [];
  const source = pieces(bytes, size);
  for await (const some of linesOf(source, { start })) lines.push(...some);
  return lines;
}

describe('linesOf', () => {
  test('does not depend on how the bytes were cut, whatever they are', async () => {
    const random = seededRandom(7);
    for (let round = 0; round < 200; round++) {
      const alphabet = ['\n', '\n', '\r\n', 'a', 'закон', '€', '😀', '\uFEFF', '\xff'];
      const words = Array.from(
        { length: random.below(60) },
        () => alphabet[random.below(alphabet.length)] ?? '',
      );
      // A byte that begins no character stands for broken text.
      const bytes = Buffer.concat(
        words.map((word) => (word === '\xff' ? Buffer.from([0xff]) : Buffer.from(word))),
      );
      const whole = await linesIn(bytes, () => 1 << 20);
      expect(await linesIn(bytes, () => 1)).toEqual(whole);
      expect(await linesIn(bytes, () => 1 + random.below(9))).toEqual(whole);
      for (const [index, { start }] of whole.entries()) {
        expect(await linesIn(bytes.subarray(start), () => 7, start)).toEqual(whole.slice(index));
      }
    }
  });

  test('a mark at the start, returns, blank lines and a last line without an end', async () => {
    const bytes = Buffer.from('\uFEFFone\r\n\ntwo\uFEFF\nthree');
    expect(await linesIn(bytes, () => 1 << 20)).toEqual([
      { start: 0, text: 'one' },
      { start: 8, text: '' },
      { start: 9, text: 'two\uFEFF' },
      { start: 16, text: 'three' },
    ]);
  });

  test('bytes that are no UTF-8 cost their own line', async () => {
    const bytes = Buffer.concat([
      Buffer.from('a\nb\n'),
      Buffer.from([0xc3, 0x0a]),
      Buffer.from('c'),
    ]);
    const texts = (await linesIn(bytes, () => 1 << 20)).map(({ text }) => text);
    expect(texts).toEqual(['a', 'b', undefined, 'c']);
  });

  /** Once seen: the job ended at such a line. Caught, planted: only lines over several pieces. */
  test('a line over the limit costs itself, however its bytes come', async () => {
    const bytes = Buffer.from(`a\n${'x'.repeat(40)}\nb\n${'y'.repeat(21)}`);
    for (const size of [1, 7, 1 << 20]) {
      const lines: Line[] = [];
      const source = pieces(bytes, () => size);
      for await (const some of linesOf(source, { start: 0, bytesMax: 20 })) lines.push(...some);
      expect(lines).toEqual([
        { start: 0, text: 'a' },
        { start: 2, text: undefined, fault: 'the line has 40 bytes, over the limit of 20' },
        { start: 43, text: 'b' },
        { start: 45, text: undefined, fault: 'the line has 21 bytes, over the limit of 20' },
      ]);
    }
  });
});
