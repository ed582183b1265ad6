import { expect, test } from 'bun:test';
import { base64OfRow } from './base64.ts';

test('base64 of little-endian float32', () => {
  expect(base64OfRow(Float32Array.of(1, -2))).toBe('AACAPwAAAMA=');
  expect(base64OfRow(new Float32Array(0))).toBe('');
});

test('reads a row from the middle of its buffer', () => {
  expect(base64OfRow(Float32Array.of(9, 1, -2, 9).subarray(1, 3))).toBe('AACAPwAAAMA=');
});
