import { describe, expect, test } from 'bun:test';
import { createRandom } from '../../testing/tokenizer-texts.ts';
import { TokenizerUnsupportedError } from '../tokenizer-error.ts';
import { parseReferenceNumber, rereadScores } from './reference-number.ts';

describe('parseReferenceNumber', () => {
  test('reads up to fifteen digits as everyone does', () => {
    const random = createRandom(1);
    for (let run = 0; run < 10_000; run++) {
      const value = Math.floor(random() * 1e15) / 10 ** Math.floor(random() * 15);
      const source = value.toString();
      if (source.replace(/\D/g, '').length <= 15) expect(parseReferenceNumber(source)).toBe(value);
    }
  });

  test('rounds twice beyond that', () => {
    // 11549507141113281 is no double: it becomes 11549507141113280 before it is divided.
    expect(parseReferenceNumber('-11.549507141113281')).toBe(-11549507141113280 / 1e15);
    expect(parseReferenceNumber('-11.549507141113281')).not.toBe(-11.549507141113281);
  });

  test('knows signs, exponents and digits without end', () => {
    expect(parseReferenceNumber('0')).toBe(0);
    expect(parseReferenceNumber('-0.0')).toBe(-0);
    expect(parseReferenceNumber('1e2')).toBe(100);
    expect(parseReferenceNumber('-2.5E-3')).toBe(-25 / 1e4);
    expect(parseReferenceNumber('1e-320')).toBe(1e-308 / 1e12);
    expect(parseReferenceNumber(`0.${'0'.repeat(400)}1`)).toBe(0);
    expect(parseReferenceNumber('1.84467440737095516159')).toBe(2 ** 64 / 1e19);
  });
});

describe('rereadScores', () => {
  test('finds the digits of each score', () => {
    const text = '{"vocab":[["a,-1]",-1.5],["b", 0],\n["c",-11.549507141113281 ]]}';
    expect(() => rereadScores(text, Float64Array.of(-1.5, 0))).toThrow(TokenizerUnsupportedError);
    const plain = text.replace('a,-1]', 'a');
    const scores = Float64Array.of(-1.5, 0, -11.549507141113281);
    expect([...rereadScores(plain, scores)]).toEqual([-1.5, 0, -11549507141113280 / 1e15]);
  });
});
