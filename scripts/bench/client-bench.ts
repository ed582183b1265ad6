/**
 * APIEncoder over a corpus, beside the load of `bun run bench` on the same server: `bun
 * scripts/bench/client-bench.ts`. In turns; the client streams from an iterator, its rows are
 * checked, and its memory is looked at on the way.
 */
import { APIEncoder } from '../../src/client/api-encoder.ts';
import { loadReferenceIds } from '../../src/testing/reference-ids.ts';
import { count, ROUNDS, readFlags, SEED, secondsFlag } from '../flags.ts';
import { medianOf } from './load/latencies.ts';
import type { PlannedRequest } from './load/load-plan.ts';
import { planRequests } from './load/plan-requests.ts';
import { measureLoad, WrongReplyError } from './measure.ts';
import { textsPerSecond } from './report/bench-report.ts';
import { saveRun } from './report/save-run.ts';
import { short, textTable } from './report/text-table.ts';
import { MODELS_DIR } from './run-scenario.ts';
import { runScript, say, verdict } from './run-script.ts';
import { SCENARIOS, textGroupsOf } from './scenario.ts';
import { type BenchTarget, startTarget } from './target/bench-target.ts';

const FLAGS = {
  rounds: ROUNDS,
  texts: count(100_000, [1000, 100_000_000], 'texts that the client encodes in a turn'),
  seconds: secondsFlag(5),
  seed: SEED,
};

/** Part of the load's texts a second that the client has to reach. */
const SHARE_WANTED = 0.9;

/** Looks at memory in a turn of the client. */
const MEMORY_LOOKS = 50;

/** How far memory may be from the first half of a turn to the second, and still be called flat. */
const GROWTH_MAX = 0.05;

/** A row in so many is compared, to the last bit: comparing all would be the bottleneck. */
const CHECKED_STEP = 97;

const CONNECTIONS = 8;

interface ClientTurn {
  readonly textsPerSecond: number;
  /** Mean resident bytes of the second half of the turn over those of the first. */
  readonly memoryGrowth: number;
}

async function main(): Promise<void> {
  const { rounds, texts: textCount, seconds, seed } = readFlags(import.meta.path, FLAGS);
  const measureMs = 1000 * seconds;
  const scenario = SCENARIOS.find(({ name }) => name === 'trivial-corpus-msgpack');
  if (scenario === undefined) throw new Error('the scenario of a corpus has another name');
  const target = await startTarget('trivial', {
    modelsDir: MODELS_DIR,
    settings: { SERVER_TIMING: 'off' },
  });
  try {
    const groups = textGroupsOf(scenario.mix, seed);
    const idsOf = loadReferenceIds(target.modelId);
    const { expected } = target;
    const requests = await planRequests(
      groups,
      { ...target, replyKind: 'msgpack' },
      { idsOf, expected },
    );
    const texts = groups.flatMap((group) => group.texts);
    const rowOf = expected.rowOf;
    if (rowOf === 'server') throw new Error('the rows of this model are known beforehand');
    const rows = await Promise.all(texts.map(async (text) => rowOf(await idsOf(text))));
    const loads: number[] = [];
    const turns: ClientTurn[] = [];
    for (let round = 1; round <= rounds; round++) {
      loads.push(await loadTurn(target, requests, { measureMs, seed }));
      turns.push(await clientTurn(target.url, { texts, rows, textCount }));
      const [load, turn] = [loads.at(-1) ?? 0, turns.at(-1)?.textsPerSecond ?? 0];
      say(`round ${round}: load ${short(load)}, client ${short(turn)} texts/s`);
    }
    console.log(report(loads, turns));
    await saveRun('client', { rounds, textCount, measureMs, seed }, { loads, turns });
  } finally {
    await target.stop();
  }
}

async function loadTurn(
  target: BenchTarget,
  requests: readonly PlannedRequest[],
  { measureMs, seed }: { measureMs: number; seed: number },
): Promise<number> {
  const point = await measureLoad(target, requests, {
    label: 'load',
    arrival: { kind: 'closed', connectionCount: CONNECTIONS },
    replyKind: 'msgpack',
    times: { warmUpMs: 1000, measureMs, seed },
  });
  return textsPerSecond(point);
}

/** Streams the corpus, over and over until there are enough texts of it. */
async function clientTurn(
  url: string,
  corpus: { texts: readonly string[]; rows: readonly Float32Array[]; textCount: number },
): Promise<ClientTurn> {
  const { texts, rows, textCount } = corpus;
  function* source(): Generator<string> {
    for (let index = 0; index < textCount; index++) yield texts[index % texts.length];
  }
  const encoder = new APIEncoder(url, { concurrency: CONNECTIONS });
  const memory: number[] = [];
  const lookEvery = Math.floor(textCount / MEMORY_LOOKS);
  const startMs = performance.now();
  let index = 0;
  for await (const row of encoder.encodeStream(source())) {
    const right = rows[index % rows.length];
    if (index % CHECKED_STEP === 0 && !row.every((value, at) => value === right[at])) {
      throw new WrongReplyError(`the client's row ${index} is another than the text's`);
    }
    if (index % lookEvery === 0) memory.push(process.memoryUsage.rss());
    index++;
  }
  const seconds = (performance.now() - startMs) / 1000;
  await encoder.close();
  if (index !== textCount) throw new WrongReplyError(`${index} rows for ${textCount} texts`);
  const half = memory.length / 2;
  const memoryGrowth = mean(memory.slice(half)) / mean(memory.slice(0, half)) - 1;
  return { textsPerSecond: textCount / seconds, memoryGrowth };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function report(loads: readonly number[], turns: readonly ClientTurn[]): string {
  const [load, client] = [medianOf(loads), medianOf(turns.map((turn) => turn.textsPerSecond))];
  const growth = medianOf(turns.map((turn) => turn.memoryGrowth));
  const percent = (share: number): string => `${short(share * 100)} %`;
  const rows = [
    ['load of the bench', short(load), '100 %'],
    ['APIEncoder', short(client), percent(client / load)],
  ];
  return [
    textTable(['medians', 'texts/s', 'share'], rows),
    '',
    verdict(
      `APIEncoder: ${percent(client / load)} of the load's texts/s`,
      `at least ${percent(SHARE_WANTED)}`,
      client / load >= SHARE_WANTED,
    ),
    verdict(
      `memory, second half of a turn beside the first: ${percent(growth)}`,
      `at most ${percent(GROWTH_MAX)}`,
      growth <= GROWTH_MAX,
    ),
  ].join('\n');
}

await runScript('client-bench', main);
