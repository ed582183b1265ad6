/**
 * A fake `trtexec`: checks its arguments as the real one would. It is the one in the image of
 * `fake-docker.ts`, and by itself that of a container that the export runs in: then each call is
 * added to `calls.jsonl` in the folder that `FAKE_STATE` names, with the GPU that it sees.
 *
 * An "engine" that it builds is a file with the path of the graph to run: `FAKE_GRAPH`, from the
 * second on `FAKE_SECOND_GRAPH`, or a copy of the one that it was given.
 */
import { appendFileSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../until.ts';
import { recordedHelp } from './trtexec-help.ts';

const STATE = process.env.FAKE_STATE ?? '';
const VERSION = Number(process.env.FAKE_TENSORRT ?? '101302');

interface FakeProfile {
  readonly min: readonly number[];
  readonly opt: readonly number[];
  readonly max: readonly number[];
}

/**
 * Reads profiles as `samples/common/sampleOptions.cpp` does: shapes follow their `--profile`, whose
 * numbers run from 0 without a gap.
 */
function readProfiles(
  given: readonly (readonly [string, string])[],
  fail: (words: string) => never,
): readonly FakeProfile[] {
  const profiles: Record<string, readonly number[]>[] = [];
  for (const [name, value] of given) {
    const end = /^(min|opt|max)Shapes$/.exec(name)?.[1];
    if (name === 'profile') {
      if (Number(value) !== profiles.length) fail(`Bad --profile=${value}`);
      profiles.push({});
    } else if (end !== undefined) {
      const shape = /^input_ids:(\d+)x(\d+),attention_mask:\1x\2$/.exec(value);
      const profile = profiles.at(-1);
      if (!shape || !profile || profile[end]) return fail(`Bad --${name}=${value}`);
      profile[end] = shape.slice(1).map(Number);
    }
  }
  return profiles.map(({ min = [], opt = [], max = [] }) => {
    const [ascending, whole] = [0, 1].map((axis) => {
      const [a = Infinity, b = Infinity, c = 0] = [min[axis], opt[axis], max[axis]];
      return a <= b && b <= c;
    });
    return ascending && whole ? { min, opt, max } : fail('Bad profile: min, opt, max');
  });
}

/**
 * @param find where a path of the command line lies, and whether it may be written.
 */
export async function runFakeTrtexec(
  line: readonly string[],
  find: (path: string) => { path: string; isWritable: boolean },
): Promise<void> {
  const help = recordedHelp(VERSION);
  if (line.join() === '--help') {
    process.stdout.write(help);
    return;
  }
  process.stdout.write(`&&&& RUNNING TensorRT.trtexec [TensorRT v${VERSION}] [b6]\n`);
  const fail = (words: string): never => {
    process.stdout.write(`[11/23/2026-10:00:00] [E] ${words}\n&&&& FAILED TensorRT.trtexec\n`);
    process.exit(1);
  };
  const given = line.map((argument) => {
    const [name = '', ...value] = argument.replace(/^--/, '').split('=');
    return [name, value.join('=')] as const;
  });
  const options = new Map(given);
  for (const name of options.keys()) {
    if (!help.includes(`--${name} `)) fail(`Unknown option: --${name}`);
  }
  if (VERSION < 110_000 && !options.has('stronglyTyped')) fail('The network is weakly typed');
  const profiles = readProfiles(given, fail);
  const graph = find(options.get('onnx') ?? '');
  if (!existsSync(graph.path)) fail(`Could not open file ${options.get('onnx')}`);
  const plan = find(options.get('saveEngine') ?? '');
  if (graph.isWritable || !plan.isWritable) fail('A volume has the wrong mode');
  if (process.env.FAKE_FAIL) fail(process.env.FAKE_FAIL);
  const tokens = profiles.map(({ max: [texts = 0, length = 0] }) => texts * length);
  // As much memory as so many padded tokens, of one profile and of all contexts together.
  if (Math.max(...tokens) > Number(process.env.FAKE_TOKENS_MAX ?? Infinity)) {
    fail('Error Code 2: OutOfMemory (Requested size was 34359738368 bytes.)');
  }
  if (profiles.length > Number(process.env.FAKE_PROFILES_MAX ?? Infinity)) {
    fail('Error Code 2: OutOfMemory (no further requested object)');
  }
  writeFileSync(join(STATE, 'trtexec.pid'), String(process.pid));
  // Until somebody ends it.
  if (process.env.FAKE_ENDLESS) await new Promise(() => setInterval(() => {}, 60_000));
  const { FAKE_UNTIL: awaited } = process.env;
  if (awaited) await until(`${awaited} is there`, () => existsSync(awaited));
  const layers = process.env.FAKE_LAYERS ?? '_gemm_mha_v2_myl0_12';
  const info = find(options.get('exportLayerInfo') ?? '');
  writeFileSync(info.path, JSON.stringify({ Layers: layers.split(','), Bindings: [] }));
  const isSecond = existsSync(join(STATE, 'built'));
  writeFileSync(join(STATE, 'built'), '');
  const { FAKE_GRAPH: first, FAKE_SECOND_GRAPH: second } = process.env;
  writeFileSync(plan.path, (isSecond ? second : undefined) ?? first ?? graph.path);
  process.stdout.write('&&&& PASSED TensorRT.trtexec\n');
}

if (import.meta.main) {
  const line = process.argv.slice(2);
  const call = ['trtexec', `device=${process.env.CUDA_VISIBLE_DEVICES}`, ...line];
  appendFileSync(join(STATE, 'calls.jsonl'), `${JSON.stringify(call)}\n`);
  const find = (path: string) => ({ path, isWritable: !path.endsWith('.onnx') });
  await runFakeTrtexec(line, find);
}
