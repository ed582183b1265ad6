import { beforeEach, expect, test } from 'bun:test';
import { VirtualClock } from '../testing/virtual-clock.ts';
import { Deadlines } from './clock.ts';

let clock: VirtualClock;
let deadlines: Deadlines;
let events: string[];

beforeEach(() => {
  clock = new VirtualClock();
  deadlines = new Deadlines(clock);
  events = [];
});

function wait(name: string, delayMs: number): () => void {
  return deadlines.schedule(delayMs, () => events.push(`${name} at ${clock.now()}`));
}

test('each wait ends at its own time, whatever its length', async () => {
  wait('long', 100);
  await clock.advance(30);
  wait('later', 100);
  wait('short', 10);
  await clock.advance(500);
  expect(events).toEqual(['short at 40', 'long at 100', 'later at 130']);
  expect(clock.plannedCount).toBe(0);
});

test('waits of one length share a timer, and none is left behind', () => {
  const cancels = Array.from({ length: 50 }, (_, index) => wait(`${index}`, 100));
  expect(clock.plannedCount).toBe(1);
  for (const cancel of cancels) cancel();
  expect(clock.plannedCount).toBe(0);
});

test('what is cancelled stays silent, and does not hold up what comes behind it', async () => {
  const cancel = wait('first', 100);
  await clock.advance(40);
  wait('second', 100);
  cancel();
  cancel();
  await clock.advance(500);
  expect(events).toEqual(['second at 140']);
});

test('a cancel that comes late does not touch waits that began since', async () => {
  const cancel = wait('first', 100);
  await clock.advance(100);
  wait('second', 100);
  cancel();
  await clock.advance(100);
  expect(events).toEqual(['first at 100', 'second at 200']);
});

test('an action may begin a wait, and cancel another', async () => {
  deadlines.schedule(100, () => {
    cancelOther();
    wait('begun', 100);
  });
  const cancelOther = wait('other', 100);
  await clock.advance(300);
  expect(events).toEqual(['begun at 200']);
  expect(clock.plannedCount).toBe(0);
});

test.each(['systemClock', 'foregroundClock'])(
  '%s takes a time that has passed without a word',
  async (name) => {
    const program = `
    const clock = (await import('./clock.ts')).${name};
    await new Promise((resolve) => { setTimeout(resolve, 1000); clock.schedule(-10, resolve); });
    console.log('done');
    process.exit();
  `;
    const child = Bun.spawnSync([process.execPath, '-e', program], { cwd: import.meta.dir });
    expect(`${child.stdout}${child.stderr}`).toBe('done\n');
  },
);
