/**
 * BGE-M3 on a CPU: the exported float32 graph, as it was served before there were others, beside
 * the graphs that an export writes for a CPU, in turns. Each file is loaded in a process of its
 * own, which also says what memory it came to hold.
 *
 * With `--with CHECKOUT --with-models-dir DIR` whole servers take turns instead of files: that
 * checkout's over the folder that its own export left, and this one's. A lone text is a `POST
 * /encode`, timed from the call to the last byte of the reply. What servers hold in memory says
 * `bge-memory-bench.ts`.
 */
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import packageJson from '../../package.json';
import { loadInferenceEngine } from '../../src/backend/local/inference-engine.ts';
import { joinTokenIds } from '../../src/backend/local/inference-protocol.ts';
import { chooseModelFile } from '../../src/backend/local/model-file.ts';
import { systemClock } from '../../src/base/clock.ts';
import { linesOf } from '../../src/corpus/sources/lines.ts';
import { loadManifest } from '../../src/model/manifest.ts';
import { seededRandom } from '../../src/testing/seeded-random.ts';
import { HEADS } from '../../src/vectors/output.ts';
import { count, listOf, oneOf, ROUNDS, readFlags, text } from '../flags.ts';
import { medianOf } from './load/latencies.ts';
import { short, textTable } from './report/text-table.ts';
import { ROOT, startServerProcess } from './target/server-process.ts';

const FILES = ['onnx/model.onnx', 'onnx/model-float32.onnx', 'onnx/model-int8.onnx'];
/** ONNX Runtime's threads spin for some milliseconds before they sleep. */
const REST_MS = 200;
const MEGABYTE = 1e6;
/** Words of one token each. */
const WORDS = ['да', 'не', 'что', 'как', 'это', 'для'] as const;
/** The longest that a server of either checkout may be told to take for a request. */
const REQUEST_TIMEOUT_MS = 250_000;

const values = readFlags(import.meta.path, {
  'models-dir': text('FOLDER', 'models', 'what export-full-shape.ts --folder has left'),
  model: text('NAME', 'bge-m3', 'manifest of the model'),
  lengths: listOf(count(512, [1, 8192], 'tokens of a text'), '16,130,512'),
  rounds: ROUNDS,
  files: listOf(text('FILE', '', 'graphs that take turns'), FILES.join()),
  heads: listOf(oneOf(HEADS, 'what to compute')),
  threads: count(availableParallelism(), [1, 1024], 'threads of a graph'),
  with: text('CHECKOUT', '', 'another checkout, set up: whole servers take turns'),
  'with-models-dir': text('FOLDER', '', 'what its own export has left'),
  child: text('FILE', '', 'as the script calls itself, for one graph'),
});
const lengths = values.lengths;
const rounds = values.rounds;

/** One file in this process: answers a line for each line that says a length. */
async function serve(file: string): Promise<void> {
  const manifest = await loadManifest({ modelsDir: values['models-dir'], name: values.model });
  const paths = chooseModelFile({
    folder: resolve(values['models-dir'], manifest.id),
    files: manifest.files,
    named: file,
    runtimeVersion: packageJson.dependencies['onnxruntime-node'],
  });
  const startMs = systemClock.now();
  const engine = await loadInferenceEngine({
    modelPath: paths.mappedPath ?? paths.modelPath,
    threadCount: values.threads,
    wideThreadCount: 0,
    outputs: manifest.outputs,
    dimension: manifest.dimension,
  });
  console.log(`${(systemClock.now() - startMs).toFixed(0)} ${memory()}`);
  for await (const line of console) {
    const count = Number(line);
    if (count === 0) break;
    const ids = Array.from({ length: count }, (_, index) => 4 + ((index * 7_919) % 249_997));
    const begunMs = systemClock.now();
    await engine.run({ messageId: 0, ...joinTokenIds([ids]), heads: values.heads, isAlone: false });
    console.log(`${(systemClock.now() - begunMs).toFixed(1)} ${memory()}`);
  }
}

/** The most memory that this process has held, in MB. */
function memory(): string {
  return ((process.resourceUsage().maxRSS * 1024) / MEGABYTE).toFixed(0);
}

/** What answers one text at a time. */
interface Contender {
  readonly name: string;
  run(tokenCount: number): Promise<Run>;
  close(): Promise<void>;
}

/** One text: how long it took, and the most memory that a file's process has held until then. */
interface Run {
  readonly ms: number;
  readonly megabytes: string;
}

/** A file in a process of its own. */
async function openFile(file: string): Promise<Contender> {
  const argv = [process.execPath, import.meta.path, ...process.argv.slice(2), '--child', file];
  const child = Bun.spawn(argv, { stdin: 'pipe', stdout: 'pipe', stderr: 'inherit' });
  const lines = linesOf(child.stdout, { start: 0 });
  const answer = async (): Promise<Run> => {
    // It says one line for each that it is asked.
    const { value } = await lines.next();
    const [ms = '', megabytes = ''] = value?.[0]?.text?.split(' ') ?? [];
    return { ms: Number(ms), megabytes };
  };
  const { ms, megabytes } = await answer();
  console.log(`${file}: loaded in ${ms} ms, ${megabytes} MB`);
  return {
    name: file,
    async run(tokenCount) {
      child.stdin.write(`${tokenCount}\n`);
      await child.stdin.flush();
      return answer();
    },
    async close() {
      child.stdin.write('0\n');
      await child.stdin.end();
      await child.exited;
    },
  };
}

/** The server of a checkout, as its operator would start it, and what it answers. */
async function openServer(root: string, modelsDir: string): Promise<Contender> {
  const startMs = systemClock.now();
  const server = await startServerProcess({
    root,
    environment: {
      BACKEND: 'embedded',
      MODEL: values.model,
      MODELS_DIR: resolve(modelsDir),
      REQUEST_TIMEOUT_MS: String(REQUEST_TIMEOUT_MS),
      LOG_LEVEL: 'warn',
    },
  });
  console.log(`${root}: ready in ${(systemClock.now() - startMs).toFixed(0)} ms`);
  let textCount = 0;
  return {
    name: root === ROOT ? 'this checkout' : root,
    async run(tokenCount) {
      // No text comes twice, so that nothing can be remembered.
      textCount += 1;
      const random = seededRandom(textCount);
      const words = Array.from({ length: tokenCount - 2 }, () => WORDS[random.below(WORDS.length)]);
      const body = JSON.stringify({ query: [words.join(' ')], outputs: values.heads });
      const begunMs = systemClock.now();
      const reply = await fetch(`${server.url}/encode`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body,
        signal: AbortSignal.timeout(2 * REQUEST_TIMEOUT_MS),
      });
      const answer = await reply.text();
      const ms = systemClock.now() - begunMs;
      const counted = reply.ok ? JSON.parse(answer).tokens?.[0] : answer;
      if (counted !== tokenCount) throw new Error(`${root}, ${tokenCount} tokens: ${counted}`);
      return { ms, megabytes: '' };
    },
    close: () => server.stop(),
  };
}

async function openContenders(): Promise<readonly Contender[]> {
  const { with: other, 'with-models-dir': otherModels } = values;
  const contenders: Contender[] = [];
  if (other === '' || otherModels === '') {
    for (const file of values.files) contenders.push(await openFile(file));
  } else {
    contenders.push(await openServer(resolve(other), otherModels));
    contenders.push(await openServer(ROOT, values['models-dir']));
  }
  return contenders;
}

/** All of one length, in turns: a row of the table for each contender. */
async function compare(length: number, contenders: readonly Contender[]): Promise<string[][]> {
  const runs: Run[][] = contenders.map(() => []);
  // One more, which warms up.
  for (let round = 0; round <= rounds; round += 1) {
    for (const [at, contender] of contenders.entries()) {
      // Threads of the one before still look for work, on the cores that this one needs.
      await Bun.sleep(REST_MS);
      runs[at].push(await contender.run(length));
    }
  }
  const times = runs.map((of) => of.slice(rounds > 0 ? 1 : 0).map(({ ms }) => ms));
  return contenders.map(({ name }, at) => {
    const ratios = times[at].map((ms, round) => times[0][round] / ms);
    return [
      `${length} tokens, ${name}`,
      short(medianOf(times[at])),
      runs[at].at(-1)?.megabytes ?? '',
      short(medianOf(ratios)),
      `${short(Math.min(...ratios))} to ${short(Math.max(...ratios))}`,
    ];
  });
}

async function main(): Promise<void> {
  const contenders = await openContenders();
  try {
    const rows: string[][] = [];
    for (const length of lengths) rows.push(...(await compare(length, contenders)));
    console.log(textTable(['medians', 'ms', 'peak MB', 'times as fast', 'from, to'], rows));
  } finally {
    for (const contender of contenders) await contender.close();
  }
}

await (values.child === '' ? main() : serve(values.child));
