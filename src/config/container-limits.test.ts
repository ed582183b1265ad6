import { afterAll, expect, test } from 'bun:test';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readContainerLimits } from './container-limits.ts';
import { planBodiesBytes } from './fit.ts';

const root = mkdtempSync(join(tmpdir(), 'cgroup-'));
afterAll(() => rmSync(root, { recursive: true }));

test.each([
  ['both', '1073741824\n', '150000 100000\n', { memoryBytes: 1_073_741_824, cores: 1.5 }],
  ['none', 'max\n', 'max 100000\n', { memoryBytes: undefined, cores: undefined }],
  ['what is no limit', 'x', '', { memoryBytes: undefined, cores: undefined }],
])('limits of a container: %s', (name, memory, cpu, limits) => {
  const folder = join(root, name);
  mkdirSync(folder);
  writeFileSync(join(folder, 'memory.max'), memory);
  writeFileSync(join(folder, 'cpu.max'), cpu);
  expect(readContainerLimits(folder)).toEqual(limits);
});

test('without cgroup v2 there are none', () => {
  const none = { memoryBytes: undefined, cores: undefined };
  expect(readContainerLimits(join(root, 'missing'))).toEqual(none);
});

const MIB = 2 ** 20;

test.each([
  [undefined, 256 * MIB],
  [8192 * MIB, 256 * MIB],
  [512 * MIB, 128 * MIB],
  // One body of BODY_BYTES_MAX must fit.
  [64 * MIB, 32 * MIB],
])('of %p bytes of memory bodies take %d', (memoryBytes, bytes) => {
  expect(planBodiesBytes(memoryBytes, { bodyBytesMax: 32 * MIB })).toBe(bytes);
});
