/**
 * The embedded server against bare ONNX Runtime in its best layout: `bun
 * scripts/bench/embedded-bench.ts`. The same model file, the same texts, in turns. The bare run
 * also says which rows are right.
 */
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import packageJson from '../../package.json';
import { chooseModelFile, usableModelFile } from '../../src/backend/local/model-file.ts';
import { loadManifest, type ModelManifest } from '../../src/model/manifest.ts';
import { loadReferenceIds } from '../../src/testing/reference-ids.ts';
import { count, listOf, ROUNDS, readFlags, SEED, secondsFlag, text } from '../flags.ts';
import { type BarePlan, runBare } from './bare/run-bare.ts';
import { benchTexts, type TextLength } from './bench-texts.ts';
import { medianOf } from './load/latencies.ts';
import type { PlannedRequest } from './load/load-plan.ts';
import { cutToTokens, planRequests } from './load/plan-requests.ts';
import { type MeasureTimes, measureLoad, WrongReplyError } from './measure.ts';
import { textsPerSecond } from './report/bench-report.ts';
import { saveRun } from './report/save-run.ts';
import { short, textTable } from './report/text-table.ts';
import { MODELS_DIR } from './run-scenario.ts';
import { runScript, say, verdict } from './run-script.ts';
import { type BenchTarget, startTarget } from './target/bench-target.ts';

/** Its figures are held against a peer's. */
const DEFAULT_MODEL = 'multilingual-e5-small';

const FLAGS = {
  rounds: ROUNDS,
  seconds: secondsFlag(8),
  seed: SEED,
  file: text('PATH', '', 'ONNX file below the model’s folder; unless told, as the server chooses'),
  only: text('WORDS', 'short,middle,long', 'sets, comma-separated'),
  connections: listOf(count(1, [1, 1000], 'requests at a time; one is the lone query'), '1,16,64'),
  model: text('NAME', DEFAULT_MODEL, 'its manifest'),
  'models-dir': text('FOLDER', MODELS_DIR, 'where it is set up'),
};

const MORE = `Bare: one-thread sessions side by side on every core, and one session on all cores; the better of the two is the measure.`;

/**
 * What is asked for: texts a second as a share of the bare run's; ms over the bare run's for a lone
 * query.
 */
const SHARE_WANTED = 0.95;
const LONE_MS_WANTED = 1.5;

/**
 * How far a row may lie from the bare run's: fused kernels add in another order when threads share
 * a text.
 */
const TOLERANCE = 1e-5;

/** How many texts of each length there are: more than a cache of anything holds. */
const TEXT_COUNTS = { short: 128, middle: 48, long: 24 } as const;

/**
 * Texts a second that text-embeddings-inference reached with an int8 model on two cores like those
 * of the figures in the notes, 16 connections, and how many times as many are asked for.
 */
const PEER = {
  short: { textsPerSecond: 310, timesWanted: 1.5 },
  middle: { textsPerSecond: 79, timesWanted: 1.1 },
  long: { textsPerSecond: 12.2, timesWanted: 1.25 },
} as const;

/** Equal texts in flight would be computed once, and the bare run computes each. */
const EACH_COMPUTED = ['x-cache: bypass'];

type SetName = keyof typeof TEXT_COUNTS;

interface Bench {
  readonly manifest: ModelManifest;
  readonly modelsDir: string;
  readonly connections: readonly number[];
  readonly file: string;
  readonly target: BenchTarget;
  readonly times: MeasureTimes;
  readonly rounds: number;
}

interface TextSet {
  readonly name: SetName;
  readonly bare: Omit<BarePlan, 'sessionCount' | 'threadCount'>;
  readonly requests: readonly PlannedRequest[];
}

async function main(): Promise<void> {
  const { rounds, seconds, seed, ...chosen } = readFlags(import.meta.path, FLAGS, MORE);
  const measureMs = 1000 * seconds;
  const names = chosen.only.split(',').filter((name): name is SetName => name in TEXT_COUNTS);
  const { model, connections, 'models-dir': modelsDir } = chosen;
  const manifest = await loadManifest({ modelsDir, name: model });
  const file = chosen.file || chosenFile(modelsDir, manifest);
  const settings = { EMBEDDED_MODEL_FILE: file, SERVER_TIMING: 'off' };
  const target = await startTarget('embedded', { modelsDir, model, settings });
  const times: MeasureTimes = { warmUpMs: 3000, measureMs, seed };
  const bench: Bench = { manifest, modelsDir, connections, file, target, times, rounds };
  try {
    const found: Found[] = [];
    for (const name of names) found.push(...(await benchSet(bench, name)));
    console.log(report(found, { model, file }));
    await saveRun('embedded', { model, file, rounds, ...times }, found);
  } finally {
    await target.stop();
  }
}

/** As the server chooses: the first that suits this processor. */
function chosenFile(modelsDir: string, { id, files }: ModelManifest): string {
  const suits = usableModelFile(resolve(modelsDir, id), files);
  if (suits === undefined) throw new Error('The manifest names no model file.');
  return suits.path;
}

/** What the server loads for a file: its mapped copy, where there is one. */
function loadedPath({ manifest, modelsDir, file }: Bench): string {
  const { modelPath, mappedPath } = chooseModelFile({
    folder: resolve(modelsDir, manifest.id),
    files: manifest.files,
    named: file,
    runtimeVersion: packageJson.dependencies['onnxruntime-node'],
  });
  return mappedPath ?? modelPath;
}

/** One figure of each contender in each round. */
interface Found {
  readonly set: SetName;
  readonly what: 'texts/s' | 'lone p50 ms';
  readonly connectionCount: number;
  readonly bare: readonly number[];
  readonly server: readonly number[];
}

async function benchSet(bench: Bench, name: SetName): Promise<readonly Found[]> {
  const { target, times, rounds } = bench;
  const set = await textSet(bench, name);
  const cores = availableParallelism();
  const bare: number[] = [];
  const bareLone: number[] = [];
  const served = new Map<number, number[]>(bench.connections.map((count) => [count, []]));
  for (let round = 1; round <= rounds; round++) {
    const sideBySide = await runBare({ ...set.bare, sessionCount: cores, threadCount: 1 });
    const together = await runBare({ ...set.bare, sessionCount: 1, threadCount: cores });
    const alone = await runBare({ ...set.bare, sessionCount: 1, threadCount: 1 });
    bare.push(Math.max(sideBySide.textsPerSecond, together.textsPerSecond));
    bareLone.push(Math.min(together.p50Ms, alone.p50Ms));
    say(
      `${name} ${round}: bare ${short(sideBySide.textsPerSecond)} texts/s side by side, ` +
        `${short(together.textsPerSecond)} on all threads; a lone text ${short(together.p50Ms)} ms ` +
        `on all threads, ${short(alone.p50Ms)} on one`,
    );
    for (const [connectionCount, figures] of served) {
      const point = await measureLoad(target, set.requests, {
        label: `${name} ${round}: ${connectionCount} connections`,
        arrival: { kind: 'closed', connectionCount },
        replyKind: 'json',
        times,
      });
      const { p50 } = point.result.latencies.all;
      figures.push(connectionCount === 1 ? p50 : textsPerSecond(point));
      say(`${point.label}: ${short(textsPerSecond(point))} texts/s, p50 ${short(p50)} ms`);
    }
  }
  await refuseCoalesced(target.url, name);
  return [...served].map(([connectionCount, server]) => ({
    set: name,
    connectionCount,
    server,
    ...(connectionCount === 1
      ? { what: 'lone p50 ms' as const, bare: bareLone }
      : { what: 'texts/s' as const, bare }),
  }));
}

/** A text that another one's row answers is not comparable to a text of the bare run. */
async function refuseCoalesced(url: string, name: SetName): Promise<void> {
  const metrics = await (await fetch(`${url}/metrics`)).text();
  const count = Number(/^bge_encoder_coalesced_texts_total (\d+)/m.exec(metrics)?.[1]);
  if (count === 0) return;
  throw new WrongReplyError(`${name}: ${count} texts were not computed, nothing is compared`);
}

/**
 * Texts, their right rows by the bare run, and requests whose replies have been checked against
 * them.
 */
async function textSet(bench: Bench, name: SetName): Promise<TextSet> {
  const { manifest, target, times } = bench;
  const length: TextLength = name;
  const texts = benchTexts({ length, count: TEXT_COUNTS[name], seed: times.seed });
  const idsOf = loadReferenceIds(manifest.id);
  const whole = await Promise.all(texts.map((text) => idsOf(manifest.prefixes.query + text)));
  const ids = whole.map((row) => cutToTokens(row, manifest.tokenCountMax));
  const { warmUpMs, measureMs } = times;
  const bare = {
    modelPath: loadedPath(bench),
    output: manifest.outputs.dense ?? 'sentence_embedding',
    texts: ids,
    warmUpMs,
    measureMs,
  };
  say(`${name}: the right rows of ${texts.length} texts, by the bare run`);
  const { rows } = await runBare({ ...bare, measureMs: 0, sessionCount: 1, threadCount: 1 });
  const byIds = new Map(ids.map((row, index) => [row.join(), rows[index]]));
  const rowOf = (row: readonly number[]): Float32Array =>
    byIds.get(row.join()) ?? new Float32Array();
  const requests = await planRequests(
    texts.map((text) => ({ kind: name, texts: [text] })),
    { ...target, replyKind: 'json', headers: EACH_COMPUTED },
    { idsOf, expected: { rowOf, tolerance: TOLERANCE } },
  );
  return { name, bare, requests };
}

function report(found: readonly Found[], of: { model: string; file: string }): string {
  const rows = found.map(({ set, what, connectionCount, bare, server }) => [
    `${set}, ${connectionCount} connection${connectionCount === 1 ? '' : 's'}, ${what}`,
    short(medianOf(bare)),
    short(medianOf(server)),
    // Both of one round, so that what disturbs one disturbs the other.
    short(medianOf(server.map((figure, round) => figure / bare[round]))),
  ]);
  const verdicts = found.flatMap(({ set, what, connectionCount, bare, server }) => {
    if (what === 'texts/s') {
      const share = medianOf(server.map((figure, round) => figure / bare[round]));
      const said = `${set}, ${connectionCount} connections: ${(100 * share).toFixed(1)} % of the bare run's texts/s`;
      const judged = verdict(said, `at least ${100 * SHARE_WANTED} %`, share >= SHARE_WANTED);
      const hasPeer = connectionCount === 16 && of.model === DEFAULT_MODEL;
      return hasPeer ? [judged, besidePeer(set, medianOf(server))] : [judged];
    }
    if (set !== 'short') return [];
    const overMs = medianOf(server.map((figure, round) => figure - bare[round]));
    const said = `a lone query takes ${short(overMs)} ms more than in the bare run`;
    return [verdict(said, `at most ${LONE_MS_WANTED}`, overMs <= LONE_MS_WANTED)];
  });
  const table = textTable([`medians, ${of.model}, ${of.file}`, 'bare', 'server', 'ratio'], rows);
  return `${table}\n\n${verdicts.join('\n')}`;
}

function besidePeer(set: SetName, rate: number): string {
  const { textsPerSecond: peer, timesWanted } = PEER[set];
  const times = rate / peer;
  const said = `${set}, 16 connections: ${short(times)} times the peer's ${peer} texts/s`;
  return verdict(said, `at least ${timesWanted}, on a machine like its`, times >= timesWanted);
}

await runScript('embedded-bench', main);
