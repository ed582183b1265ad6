import { expect, test } from 'bun:test';
import { describePull } from './docker-image.ts';

const pull = { image: 'triton:1', root: '/var/lib/docker' };

test('a pull tells what it costs, and whether the disk has that much', () => {
  const cost = 'pulling triton:1: about 8 GB, which take 16 GB of disk';
  expect(describePull({ ...pull, freeBytes: undefined })).toBe(cost);
  expect(describePull({ ...pull, freeBytes: 20.04e9 })).toBe(
    `${cost}; /var/lib/docker has 20.0 GB free`,
  );
  expect(describePull({ ...pull, freeBytes: 15.9e9 })).toBe(
    `${cost}; /var/lib/docker has 15.9 GB free: too little`,
  );
});
