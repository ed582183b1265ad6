import { expect, test } from 'bun:test';
import { seededRandom } from './seeded-random.ts';
import { VirtualClock } from './virtual-clock.ts';

test('what is due runs in its order, each at its own time, and no sooner', async () => {
  const random = seededRandom(4);
  const clock = new VirtualClock();
  const ran: { atMs: number; index: number }[] = [];
  const wanted: { atMs: number; index: number }[] = [];
  for (let index = 0; index < 300; index++) {
    const atMs = random.below(40);
    const cancel = clock.schedule(atMs, () => ran.push({ atMs: clock.now(), index }));
    if (random.below(5) === 0) cancel();
    else wanted.push({ atMs, index });
  }
  wanted.sort((a, b) => a.atMs - b.atMs || a.index - b.index);
  await clock.advance(20);
  expect(ran).toEqual(wanted.filter(({ atMs }) => atMs <= 20));
  await clock.advance(20);
  expect(ran).toEqual(wanted);
  expect([clock.now(), clock.plannedCount]).toEqual([40, 0]);
});

test('an action may plan, cancel and wait', async () => {
  const clock = new VirtualClock();
  const ran: string[] = [];
  const cancel = clock.schedule(3, () => ran.push('never'));
  clock.schedule(1, () => {
    cancel();
    cancel();
    clock.schedule(1, () => ran.push(`planned ${clock.now()}`));
    clock.afterTurn(() => ran.push(`turn ${clock.now()}`));
  });
  await clock.advance(10);
  expect(ran).toEqual(['turn 1', 'planned 2']);
  expect(clock.plannedCount).toBe(0);
});
