import { describe, expect, test } from 'bun:test';
import { checkGpu } from './gpu.ts';

const T4 = { name: 'Tesla T4', driver: '580.65.06', capability: 7.5 };
const triton = (tag: string) => `nvcr.io/nvidia/tritonserver:${tag}`;

describe('the least compute capability', () => {
  const v100 = { ...T4, name: 'Tesla V100', capability: 7 };

  test.each([
    [v100, triton('25.08-py3')],
    [v100, triton('24.10-py3')],
    [{ ...T4, name: 'GTX 1080', capability: 6.1 }, 'mirror:5000/tritonserver:25.08-py3'],
  ])('refuses %p for %s', (gpu, image) => {
    expect(() => checkGpu(gpu, image)).toThrow(
      `${gpu.name} has compute capability ${gpu.capability}; TensorRT in ${image} needs 7.5`,
    );
  });

  test.each([
    [T4, triton('25.08-py3')],
    [{ ...T4, capability: 12 }, triton('25.08-py3')],
    // The last TensorRT that has Volta.
    [v100, triton('24.09-py3')],
    [v100, 'triton-of-my-own'],
    [{ ...T4, capability: undefined }, triton('25.08-py3')],
  ])('lets %p through for %s', (gpu, image) => {
    expect(checkGpu(gpu, image)).toBeUndefined();
  });
});

test.each([
  ['535.216.01', '25.08-py3', true],
  ['575.57.08', '26.01-py3', true],
  ['580.65.06', '25.08-py3', false],
  ['610.10', '25.08-py3', false],
  ['535.216.01', '25.06-py3', false],
])('driver %s with the image %s: %p to be warned of', (driver, tag, isWarned) => {
  const warning = checkGpu({ ...T4, driver }, triton(tag));
  expect(warning !== undefined).toBe(isWarned);
  if (isWarned) expect(warning).toContain(`driver ${driver} is older than 580`);
});
