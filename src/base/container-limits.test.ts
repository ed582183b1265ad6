import { afterAll, expect, test } from 'bun:test';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { planBodiesBytes } from '../config/fit.ts';
import { freeMemoryBytes, readContainerLimits } from './container-limits.ts';

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

test.each([
  ['what the limit leaves', '8000', { current: '3000', idle: 1000 }, 6000],
  ['what the machine has, when that is less', '80000', { current: '3000', idle: 0 }, 10_000],
  ['nothing', '8000', { current: '9000', idle: 0 }, 0],
  ['what the machine has, without a limit', 'max', { current: '3000', idle: 0 }, 10_000],
])('free memory is %s', (name, max, { current, idle }, bytes) => {
  const folder = join(root, name);
  mkdirSync(folder);
  writeFileSync(join(folder, 'memory.max'), `${max}\n`);
  writeFileSync(join(folder, 'memory.current'), `${current}\n`);
  writeFileSync(join(folder, 'memory.stat'), `anon 1\ninactive_file ${idle}\nactive_file 7\n`);
  expect(freeMemoryBytes({ folder, machineBytes: 10_000 })).toBe(bytes);
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
