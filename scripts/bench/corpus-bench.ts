/**
 * The corpus command beside bare requests of the same shape to the same server, in turns: `bun
 * scripts/bench/corpus-bench.ts`. The server stands on a real Triton; over a model that costs
 * nothing, what the command itself costs shows.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startCommand } from '../../src/testing/corpus/kill-run.ts';
import { legalTexts } from '../../src/testing/legal-texts.ts';
import { loadReferenceIds } from '../../src/testing/reference-ids.ts';
import { count, oneOf, ROUNDS, readFlags, SEED, secondsFlag } from './bench-flags.ts';
import { medianOf } from './load/latencies.ts';
import type { PlannedRequest } from './load/load-plan.ts';
import { planRequests } from './load/plan-requests.ts';
import { measureLoad } from './measure.ts';
import { textsPerSecond } from './report/bench-report.ts';
import { saveRun } from './report/save-run.ts';
import { short, textTable } from './report/text-table.ts';
import { MODELS_DIR } from './run-scenario.ts';
import { runScript, say, verdict } from './run-script.ts';
import { type BenchTarget, startTarget } from './target/bench-target.ts';
import { usageOf } from './target/process-usage.ts';

const FLAGS = {
  rounds: count(3, [1, 100], ROUNDS.meaning),
  texts: count(200_000, [12_800, 100_000_000], 'texts of the corpus'),
  seconds: secondsFlag(5),
  target: oneOf(['trivial', 'timed'], 'a model that costs nothing, or takes the time of a GPU'),
  format: oneOf(['parquet', 'jsonl', 'npy'], 'files that are written'),
  seed: SEED,
};

/** Part of the bare requests' texts a second that the command has to reach. */
const SHARE_WANTED = 0.9;
/** What the command may hold at its most, in bytes. */
const MEMORY_MAX = 300e6;
/** Between two looks at the memory, in ms. */
const LOOK_MS = 100;
/** As the command sends them. */
const REQUEST_TEXTS = 128;
const CONNECTIONS = 8;
/** Requests that the load repeats. */
const PLANNED_REQUESTS = 100;

interface CommandTurn {
  readonly textsPerSecond: number;
  /** From the process's start to its end, planning and all. */
  readonly wallSeconds: number;
  readonly memoryPeak: number;
  /** Mean of the last quarter over that of the second. */
  readonly memoryGrowth: number;
}

async function main(): Promise<void> {
  const {
    rounds,
    texts: textCount,
    seconds,
    target: targetName,
    format,
    seed,
  } = readFlags(import.meta.path, FLAGS);
  const measureMs = 1000 * seconds;
  const folder = mkdtempSync(join(tmpdir(), 'corpus-bench-'));
  const target = await startTarget(targetName, {
    modelsDir: MODELS_DIR,
    settings: { SERVER_TIMING: 'off' },
  });
  try {
    const source = join(folder, 'laws.jsonl');
    const texts = await writeCorpus(source, textCount, seed);
    const requests = await bareRequests(target, texts);
    const loads: number[] = [];
    const turns: CommandTurn[] = [];
    for (let round = 1; round <= rounds; round++) {
      const point = await measureLoad(target, requests, {
        label: 'load',
        arrival: { kind: 'closed', connectionCount: CONNECTIONS },
        replyKind: 'msgpack',
        times: { warmUpMs: 1000, measureMs, seed },
      });
      loads.push(textsPerSecond(point));
      const to = join(folder, 'vectors');
      const words = [source, '--to', to, '--id', 'id', '--url', target.url];
      const turn = await commandTurn([...words, '--format', format], textCount);
      turns.push(turn);
      rmSync(to, { recursive: true });
      say(
        `round ${round}: bare ${short(loads.at(-1) ?? 0)}, command ${short(turn.textsPerSecond)}`,
      );
    }
    console.log(report(loads, turns));
    await saveRun('corpus', { rounds, textCount, measureMs, seed }, { loads, turns });
  } finally {
    await target.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Requests as the command sends them, background and all, with the replies that are right. */
function bareRequests(
  target: BenchTarget,
  texts: readonly string[],
): Promise<readonly PlannedRequest[]> {
  const groups = Array.from({ length: PLANNED_REQUESTS }, (_, index) => ({
    kind: 'corpus',
    texts: texts.slice(index * REQUEST_TEXTS, (index + 1) * REQUEST_TEXTS),
  }));
  return planRequests(
    groups,
    {
      ...target,
      ...{ bodyKind: 'msgpack', replyKind: 'msgpack' },
      fields: { input_type: 'passage', outputs: ['dense'] },
      headers: ['x-priority: background'],
    },
    { idsOf: loadReferenceIds(target.modelId), expected: target.expected },
  );
}

/** @returns the first texts, for the bare requests. */
async function writeCorpus(path: string, textCount: number, seed: number): Promise<string[]> {
  const sink = Bun.file(path).writer();
  const first: string[] = [];
  for (let start = 0; start < textCount; start += 1000) {
    const counts = Array.from(
      { length: Math.min(1000, textCount - start) },
      (_, at) => 40 + (at % 81),
    );
    for (const [index, text] of legalTexts(counts, seed + start).entries()) {
      sink.write(`${JSON.stringify({ id: `law-${start + index}`, text })}\n`);
      if (first.length < PLANNED_REQUESTS * REQUEST_TEXTS) first.push(text);
    }
    await sink.flush();
  }
  await sink.end();
  return first;
}

async function commandTurn(words: readonly string[], textCount: number): Promise<CommandTurn> {
  const startMs = performance.now();
  const command = startCommand(words);
  const memory: number[] = [];
  const timer = setInterval(() => memory.push(usageOf([command.pid]).residentBytes), LOOK_MS);
  const { status, said } = await command.ended;
  clearInterval(timer);
  const wallSeconds = (performance.now() - startMs) / 1000;
  if (status !== 0) throw new Error(`the command ended with ${status}: ${said}`);
  const rate = Number(/\((\d+) texts\/s\)/.exec(said)?.[1]);
  if (!said.includes(`${textCount} texts and`)) throw new Error(`not all texts: ${said}`);
  const quarter = Math.floor(memory.length / 4);
  const growth = mean(memory.slice(3 * quarter)) / mean(memory.slice(quarter, 2 * quarter)) - 1;
  return {
    textsPerSecond: rate,
    wallSeconds,
    memoryPeak: Math.max(...memory),
    memoryGrowth: growth,
  };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function report(loads: readonly number[], turns: readonly CommandTurn[]): string {
  const load = medianOf(loads);
  const rate = medianOf(turns.map((turn) => turn.textsPerSecond));
  const peak = Math.max(...turns.map(({ memoryPeak }) => memoryPeak));
  const growth = medianOf(turns.map(({ memoryGrowth }) => memoryGrowth));
  const wall = medianOf(turns.map(({ wallSeconds }) => wallSeconds));
  const percent = (share: number): string => `${short(share * 100)} %`;
  return [
    textTable(
      ['medians', 'texts/s', 'share'],
      [
        ['bare requests', short(load), '100 %'],
        ['the command', short(rate), percent(rate / load)],
      ],
    ),
    '',
    `from start to end ${short(wall)} s; memory grows by ${percent(growth)} from the second quarter to the last`,
    verdict(
      `the command: ${percent(rate / load)} of bare requests`,
      `at least ${percent(SHARE_WANTED)}`,
      rate / load >= SHARE_WANTED,
    ),
    verdict(
      `memory at its most: ${short(peak / 1e6)} MB`,
      `at most ${short(MEMORY_MAX / 1e6)} MB`,
      peak <= MEMORY_MAX,
    ),
  ].join('\n');
}

await runScript('corpus-bench', main);
