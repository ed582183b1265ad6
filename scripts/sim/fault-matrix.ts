/**
 * Runs each fault against a live server under load, once on one endpoint and once on two, and
 * writes what it did to the table in `src/docs/faults.md`; with `--only`, to its lines alone.
 * Wants root, for a network of its own in which a firewall may drop packets, and `./run.sh test`'s
 * Triton.
 */
import { join } from 'node:path';
import { onOff, readFlags, text } from '../flags.ts';
import { FAULTS, type Fault, findNft } from './faults/fault-list.ts';
import { startLoad } from './faults/fault-load.ts';
import { openRig } from './faults/fault-rig.ts';

const values = readFlags(import.meta.path, {
  only: text('NAME', '', 'faults whose name has this part'),
  'no-write': onOff('leaves the table as it is'),
  inside: onOff('as the script calls itself, in a network of its own'),
});
const TABLE_FILE = join(import.meta.dir, '../../src/docs/faults.md');

/** How long the load runs before a fault, and a fault lasts, in ms. */
const BEFORE_MS = 700;
const FAULT_MS = 3000;

const HEADER = [
  '| fault | endpoints | requests | lost | refused | wrong vectors | well after its end | longest silence | regions left | what clients saw beside vectors |',
  '| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |',
];

/** The load is well again after so many right answers in a row; given up after so many ms. */
const WELL_AFTER = 60;
const WELL_MS_MAX = 20_000;

if (!values.inside) {
  findNft();
  const again = [process.execPath, import.meta.path, '--inside', ...process.argv.slice(2)];
  const child = Bun.spawn(
    ['unshare', '-n', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh', ...again],
    {
      stdio: ['ignore', 'inherit', 'inherit'],
    },
  );
  process.exit(await child.exited);
}

interface Outcome {
  readonly lost: number;
  readonly refused: number;
  readonly wrong: number;
  readonly requests: number;
  readonly recoverMs: number | undefined;
  readonly gapMs: number;
  readonly regions: number;
  readonly seen: string;
}

async function run(fault: Fault, hasSecond: boolean): Promise<Outcome> {
  const { isFullDisk = false, hasDamagedWeights = false } = fault;
  const rig = await openRig({ ...fault, hasSecond, isFullDisk, hasDamagedWeights });
  const load = startLoad(rig.server.url, rig.rows);
  const { report } = load;
  let isClosed = false;
  try {
    await Bun.sleep(BEFORE_MS);
    const injectedMs = performance.now();
    await fault.inject(rig);
    await Bun.sleep(Math.max(0, FAULT_MS - (performance.now() - injectedMs)));
    await fault.heal(rig);
    const healedMs = performance.now();
    report.successesInARow = 0;
    while (report.successesInARow < WELL_AFTER && performance.now() - healedMs < WELL_MS_MAX) {
      await Bun.sleep(10);
    }
    const isWell = report.successesInARow >= WELL_AFTER;
    await load.stop();
    isClosed = true;
    return {
      regions: await rig.close(),
      lost: report.lostCount,
      refused: report.refusedCount,
      wrong: report.wrongCount,
      requests: report.requestCount,
      recoverMs: isWell ? Math.max(0, report.lastFailureMs - healedMs) : undefined,
      gapMs: report.longestGapMs,
      seen: [...report.seen].map(([what, count]) => `${count} × ${what}`).join(', ') || 'vectors',
    };
  } finally {
    // Of a fault that could not be made.
    if (!isClosed) await Promise.all([load.stop(), rig.close()]);
  }
}

const rows: string[] = [];
for (const fault of FAULTS) {
  if (!fault.name.includes(values.only)) continue;
  for (const hasSecond of fault.isOfEndpoint ? [false, true] : [false]) {
    const of = fault.isOfEndpoint ? (hasSecond ? '2' : '1') : '–';
    try {
      const outcome = await run(fault, hasSecond);
      const { lost, refused, wrong, requests, recoverMs, gapMs, regions, seen } = outcome;
      const back = recoverMs === undefined ? 'never' : `${Math.round(recoverMs)} ms`;
      rows.push(
        `| ${fault.name} | ${of} | ${requests} | ${lost} | ${refused} | ${wrong} | ${back} | ${Math.round(gapMs)} ms | ${regions} | ${seen} |`,
      );
    } catch (error) {
      rows.push(`| ${fault.name} | ${of} | – | – | – | – | – | – | – | not run: ${error} |`);
    }
    console.log(rows.at(-1));
  }
}
if (!values['no-write']) await write(rows);

/** Puts the rows in the table: all of it, or with `--only` in place of those of the same name. */
async function write(made: readonly string[]): Promise<void> {
  const text = await Bun.file(TABLE_FILE).text();
  const [head, table, tail] = text.split(/<!-- \/?faults -->\n?/);
  if (table === undefined || tail === undefined) {
    throw new Error('src/docs/faults.md has no place for the table of faults');
  }
  const keyOf = (row: string): string => row.split(' | ').slice(0, 2).join(' | ');
  const byKey = new Map(made.map((row) => [keyOf(row), row]));
  const kept = values.only === '' ? [] : table.trim().split('\n').slice(HEADER.length);
  const lines = kept.map((row) => {
    const anew = byKey.get(keyOf(row)) ?? row;
    byKey.delete(keyOf(row));
    return anew;
  });
  const all = [...HEADER, ...lines, ...byKey.values()].join('\n');
  await Bun.write(TABLE_FILE, `${head}<!-- faults -->\n${all}\n<!-- /faults -->\n${tail}`);
}
