import { describe, expect, test } from 'bun:test';
import { decodeJsonBody } from './decode-json.ts';
import { findDepthFault, JSON_DEPTH_MAX } from './json-depth.ts';

/**
 * Faults that were planted in the code by hand, and that this suite caught: brackets counted inside
 * strings; a quote behind an even number of backslashes that is skipped; a level that is closed and
 * still counted.
 */

const faultOf = (json: string): number => findDepthFault(Buffer.from(json));

const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth);

describe('nesting', () => {
  test('is allowed to the limit and named by its byte beyond', () => {
    expect(faultOf(nested(JSON_DEPTH_MAX))).toBe(-1);
    expect(faultOf(nested(JSON_DEPTH_MAX + 1))).toBe(JSON_DEPTH_MAX);
    expect(faultOf(`{"a":${'{"a":'.repeat(40)}`)).toBe(5 * JSON_DEPTH_MAX);
  });

  test('many levels one after the other are not deep', () => {
    expect(faultOf(`[${'[],{},'.repeat(1000)}1]`)).toBe(-1);
  });

  test('what stands in strings is text', () => {
    expect(faultOf(JSON.stringify('['.repeat(1000)))).toBe(-1);
    expect(faultOf(JSON.stringify([`"${'['.repeat(100)}\\"`, '\\', '['.repeat(100)]))).toBe(-1);
    expect(faultOf(`["\\\\",${nested(JSON_DEPTH_MAX)}]`)).toBe(6 + JSON_DEPTH_MAX - 1);
    expect(faultOf('"never closed [[[')).toBe(-1);
  });

  test('a body too deep is malformed, and no parser sees it', () => {
    const body = Buffer.from(`{"query":${nested(5_000_000)}}`);
    expect(() => decodeJsonBody(body)).toThrow('nested deeper than 32 levels');
  });
});
