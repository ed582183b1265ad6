import { expect, test } from 'bun:test';
import { layoutSessions } from './session-layout.ts';

const MACHINE = { slotCount: 0, threadCount: 1, coreCount: 8, isMapped: false };
const SMALL = 80 * 2 ** 20;
const LARGE = 2.3e9;
const MANY = { messageTextsMax: 16, messageTokensMax: 320 };
const ONE = { messageTextsMax: 1, messageTokensMax: 1 };

test('a small model has a worker for each core, and one session over all of them', () => {
  const layout = layoutSessions({ ...MACHINE, modelBytes: SMALL });
  expect(layout).toEqual({
    slotCount: 8,
    spareSlotCount: 0,
    threadCount: 1,
    wideThreadCount: 8,
    ...MANY,
  });
  const alone = layoutSessions({ ...MACHINE, coreCount: 1, modelBytes: SMALL });
  expect(alone).toEqual({
    slotCount: 1,
    spareSlotCount: 0,
    threadCount: 1,
    wideThreadCount: 0,
    ...MANY,
  });
});

test('a large model is loaded once, over all cores', () => {
  const layout = layoutSessions({ ...MACHINE, modelBytes: LARGE });
  expect(layout).toEqual({
    slotCount: 1,
    spareSlotCount: 0,
    threadCount: 8,
    wideThreadCount: 0,
    ...ONE,
  });
});

test('a large model whose sessions share its weights is spread like a small one, a text at a time, and one is spare', () => {
  const mapped = { ...MACHINE, isMapped: true, modelBytes: 0.9e9 };
  const spread = { slotCount: 8, spareSlotCount: 1, threadCount: 1, wideThreadCount: 8, ...ONE };
  expect(layoutSessions(mapped)).toEqual(spread);
  const told = layoutSessions({ ...mapped, slotCount: 2 });
  expect(told).toEqual({
    slotCount: 2,
    spareSlotCount: 1,
    threadCount: 1,
    wideThreadCount: 2,
    ...ONE,
  });
});

test('what the settings say holds', () => {
  const told = { slotCount: 2, threadCount: 4, coreCount: 8, isMapped: false };
  const large = layoutSessions({ ...told, modelBytes: LARGE });
  expect(large).toEqual({
    slotCount: 2,
    spareSlotCount: 0,
    threadCount: 4,
    wideThreadCount: 0,
    ...ONE,
  });
  const small = layoutSessions({ ...told, modelBytes: SMALL });
  expect(small).toEqual({
    slotCount: 2,
    spareSlotCount: 0,
    threadCount: 4,
    wideThreadCount: 8,
    ...MANY,
  });
  const threads = layoutSessions({ ...MACHINE, threadCount: 3, modelBytes: LARGE });
  expect(threads).toEqual({
    slotCount: 1,
    spareSlotCount: 0,
    threadCount: 3,
    wideThreadCount: 0,
    ...ONE,
  });
});
