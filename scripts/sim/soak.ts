/**
 * A live server on two endpoints under load, with a random fault of the first every few seconds.
 * Samples its memory, file descriptors, sockets and threads; draws them into `reports/soak.svg`,
 * and exits with 1 when one of them grows or a vector was wrong.
 */
import { mkdirSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { seededRandom } from '../../src/testing/seeded-random.ts';
import { amount, readFlags, SEED } from '../flags.ts';
import { FAULTS } from './faults/fault-list.ts';
import { learnRows, startLoad } from './faults/fault-load.ts';
import { openRig } from './faults/fault-rig.ts';

const values = readFlags(import.meta.path, {
  minutes: amount(30, [0.1, 10_000], 'minutes under load'),
  seed: SEED,
});
const random = seededRandom(values.seed * 7919);
const endMs = performance.now() + values.minutes * 60_000;
const SAMPLE_MS = 3000;

/** Growth of the last quarter over the second one that is noise: the collector's, a pool's. */
const GROWTH_SHARE_MAX = 0.2;
const GROWTH_COUNT_MAX = 8;

interface Sample {
  readonly memoryMb: number;
  readonly fileDescriptors: number;
  readonly sockets: number;
  readonly threads: number;
}

function sample(pid: number): Sample {
  const folder = `/proc/${pid}`;
  const status = readFileSync(`${folder}/status`, 'utf8');
  const links = readdirSync(`${folder}/fd`).map((fd) => {
    try {
      return readlinkSync(`${folder}/fd/${fd}`);
    } catch {
      return '';
    }
  });
  return {
    memoryMb: Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024),
    fileDescriptors: links.length,
    sockets: links.filter((link) => link.startsWith('socket:')).length,
    threads: readdirSync(`${folder}/task`).length,
  };
}

const meanOf = (list: readonly number[]): number =>
  list.reduce((sum, value) => sum + value, 0) / Math.max(1, list.length);

/** One line a quantity, each over its own largest value. */
function draw(samples: readonly Sample[]): string {
  const [width, height] = [900, 300];
  const colours = ['#c33', '#36c', '#393', '#963'];
  const lines = (Object.keys(samples[0] ?? {}) as (keyof Sample)[]).map((name, index) => {
    const list = samples.map((one) => one[name]);
    const largest = Math.max(...list, 1);
    const points = list.map((value, at) => {
      const x = Math.round((at / Math.max(1, list.length - 1)) * width);
      return `${x},${Math.round(height - (value / largest) * (height - 20))}`;
    });
    const label = `<text x="8" y="${16 + index * 16}" fill="${colours[index]}">${name}, at most ${largest}</text>`;
    return `<polyline fill="none" stroke="${colours[index]}" points="${points.join(' ')}"/>${label}`;
  });
  const size = `viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size}>${lines.join('\n')}</svg>\n`;
}

const faults = FAULTS.filter(({ first, name }) => first === 'real' && !name.includes('model'));
const rig = await openRig({ first: 'real', hasSecond: true, isFullDisk: false });
const samples: Sample[] = [];
let faultCount = 0;
let isBad = false;
try {
  const load = startLoad(rig.server.url, await learnRows(rig.server.url));
  const sampling = setInterval(() => samples.push(sample(rig.server.pid)), SAMPLE_MS);
  while (performance.now() < endMs) {
    const fault = random.pick(faults);
    faultCount++;
    await fault.inject(rig);
    await Bun.sleep(random.between(500, 4000));
    await fault.heal(rig);
    await Bun.sleep(random.between(500, 4000));
  }
  clearInterval(sampling);
  await load.stop();
  const { requestCount, wrongCount, lostCount, refusedCount } = load.report;
  console.log(
    `${values.minutes} minutes, ${faultCount} faults: ${requestCount} requests, ${lostCount} lost, ` +
      `${refusedCount} refused, ${wrongCount} wrong vectors`,
  );
  isBad = wrongCount > 0 || lostCount > 0;
  const quarter = Math.floor(samples.length / 4);
  for (const name of Object.keys(samples[0] ?? {}) as (keyof Sample)[]) {
    const list = samples.map((one) => one[name]);
    const early = meanOf(list.slice(quarter, 2 * quarter));
    const late = meanOf(list.slice(-quarter));
    const allowed = name === 'memoryMb' ? early * GROWTH_SHARE_MAX : GROWTH_COUNT_MAX;
    const hasGrown = late - early > allowed;
    if (hasGrown) isBad = true;
    console.log(
      `${name}: ${early.toFixed(1)} early, ${late.toFixed(1)} late${hasGrown ? ': GROWN' : ''}`,
    );
  }
  const reports = join(import.meta.dir, '../../reports');
  mkdirSync(reports, { recursive: true });
  await Bun.write(join(reports, 'soak.svg'), draw(samples));
} finally {
  await rig.close();
}
if (isBad) process.exit(1);
