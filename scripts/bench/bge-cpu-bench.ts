/**
 * BGE-M3 on a CPU: the exported float32 graph, as it was served before there were others, beside
 * the graphs that an export writes for a CPU, in turns. `bun scripts/bench/bge-cpu-bench.ts
 * --models-dir DIR [--lengths 16,130] [--rounds 5]`; the folder is what
 * `scripts/bench/export-full-shape.ts --folder` leaves. Each file is loaded in a process of its
 * own, which also says what memory it came to hold.
 */
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import packageJson from '../../package.json';
import { loadInferenceEngine } from '../../src/backend/local/inference-engine.ts';
import { joinTokenIds } from '../../src/backend/local/inference-protocol.ts';
import { chooseModelFile } from '../../src/backend/local/model-file.ts';
import { systemClock } from '../../src/base/clock.ts';
import { loadManifest } from '../../src/model/manifest.ts';
import type { Head } from '../../src/vectors/output.ts';
import { medianOf } from './load/latencies.ts';
import { short, textTable } from './report/text-table.ts';

const FILES = ['onnx/model.onnx', 'onnx/model-float32.onnx', 'onnx/model-int8.onnx'];
/** ONNX Runtime's threads spin for some milliseconds before they sleep. */
const REST_MS = 200;
const MEGABYTE = 1e6;

const { values } = parseArgs({
  options: {
    'models-dir': { type: 'string', default: 'models' },
    model: { type: 'string', default: 'bge-m3' },
    lengths: { type: 'string', default: '16,130,512' },
    rounds: { type: 'string', default: '5' },
    files: { type: 'string', default: FILES.join() },
    heads: { type: 'string', default: 'dense' },
    threads: { type: 'string', default: String(availableParallelism()) },
    child: { type: 'string' },
  },
});
const lengths = values.lengths.split(',').map(Number);
const rounds = Number(values.rounds);

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
    threadCount: Number(values.threads),
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
    const heads = values.heads.split(',') as Head[];
    await engine.run({ messageId: 0, ...joinTokenIds([ids]), heads, isAlone: false });
    console.log(`${(systemClock.now() - begunMs).toFixed(1)} ${memory()}`);
  }
}

/** The most memory that this process has held, in MB. */
function memory(): string {
  return ((process.resourceUsage().maxRSS * 1024) / MEGABYTE).toFixed(0);
}

class Contender {
  readonly file: string;
  readonly #child;
  readonly #lines: AsyncIterator<string>;
  readonly times = new Map<number, number[]>();
  readonly megabytes = new Map<number, string>();

  constructor(file: string) {
    this.file = file;
    const argv = [process.execPath, import.meta.path, ...process.argv.slice(2), '--child', file];
    this.#child = Bun.spawn(argv, { stdin: 'pipe', stdout: 'pipe', stderr: 'inherit' });
    this.#lines = linesOf(this.#child.stdout);
  }

  async answer(): Promise<[string, string]> {
    const { value = '' } = await this.#lines.next();
    const [time = '', megabytes = ''] = String(value).split(' ');
    return [time, megabytes];
  }

  async run(length: number): Promise<void> {
    this.#child.stdin.write(`${length}\n`);
    await this.#child.stdin.flush();
    const [time, megabytes] = await this.answer();
    this.times.set(length, [...(this.times.get(length) ?? []), Number(time)]);
    this.megabytes.set(length, megabytes);
  }

  async close(): Promise<void> {
    this.#child.stdin.write('0\n');
    await this.#child.stdin.end();
    await this.#child.exited;
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = '';
  const decoder = new TextDecoder();
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
  }
}

async function main(): Promise<void> {
  const contenders: Contender[] = [];
  for (const file of values.files.split(',')) {
    const contender = new Contender(file);
    const [loadMs, megabytes] = await contender.answer();
    console.log(`${file}: loaded in ${loadMs} ms, ${megabytes} MB`);
    contenders.push(contender);
  }
  const rows: string[][] = [];
  for (const length of lengths) {
    // One more, which warms up.
    for (let round = 0; round <= rounds; round += 1) {
      for (const contender of contenders) {
        // Threads of the one before still look for work, on the cores that this one needs.
        await Bun.sleep(REST_MS);
        await contender.run(length);
      }
    }
    const [base, ...others] = contenders.map(({ times }) =>
      (times.get(length) ?? []).slice(rounds > 0 ? 1 : 0),
    );
    for (const [index, contender] of contenders.entries()) {
      const times = [base, ...others][index];
      const ratio = medianOf(times.map((time, round) => base[round] / time));
      const megabytes = contender.megabytes.get(length) ?? '';
      rows.push([
        `${length} tokens, ${contender.file}`,
        short(medianOf(times)),
        megabytes,
        short(ratio),
      ]);
    }
  }
  console.log(textTable(['medians', 'ms', 'peak MB', 'times as fast'], rows));
  for (const contender of contenders) await contender.close();
}

await (values.child === undefined ? main() : serve(values.child));
