/**
 * A fake `docker` where there is none: knows the calls of the export and no other, and
 * checks their arguments as the real programs behind them would. Each call is added to
 * `calls.jsonl` in the folder that `FAKE_STATE` names. A container is a file there, named as it
 * is, with the id of the process that runs in it, and the container stays as long as the file.
 *
 * An "engine" that its `trtexec` builds is a file with the path of the graph to run: `FAKE_GRAPH`,
 * from the second on `FAKE_SECOND_GRAPH`, or the one that it was given. Its `tritonserver` is a
 * real one, with ONNX Runtime behind it.
 */
import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { recordedHelp } from './trtexec-help.ts';

const STATE = process.env.FAKE_STATE ?? '';
const VERSION = Number(process.env.FAKE_TENSORRT ?? '101302');
const ADDRESS = join(STATE, 'address');
const CONTAINER = 'c0ffee'.repeat(10).concat('0000');
const arguments_ = process.argv.slice(2);
appendFileSync(join(STATE, 'calls.jsonl'), `${JSON.stringify(arguments_)}\n`);

function refuse(words: string): never {
  process.stderr.write(`fake docker: ${words}\n`);
  process.exit(125);
}

/** As Docker's own client tells what its daemon said. */
function refuseAsDaemon(words: string): never {
  process.stderr.write(`docker: Error response from daemon: ${words}\n\n`);
  process.stderr.write("Run 'docker run --help' for more information\n");
  process.exit(125);
}

/** The value after an option of the command line. */
function optionOf(option: string): string {
  const index = arguments_.indexOf(option);
  return index < 0 ? refuse(`no ${option}`) : (arguments_[index + 1] ?? '');
}

const containerPath = (name: string): string => join(STATE, `container-${name}`);

/** Takes a container's name for a process, or for one that has ended; Docker gives each once. */
function claim(processId: number | 'ended'): void {
  const name = optionOf('--name');
  if (existsSync(containerPath(name))) {
    refuseAsDaemon(`Conflict. The container name "/${name}" is already in use.`);
  }
  writeFileSync(containerPath(name), String(processId));
}

/** The process in a container; undefined when there is none, or no container. */
function processOf(name: string): number | undefined {
  try {
    const processId = Number(readFileSync(containerPath(name), 'utf8'));
    // Neither 0 nor a negative number is one process.
    return processId > 0 && process.kill(processId, 0) ? processId : undefined;
  } catch {
    return undefined;
  }
}

function remove(names: readonly string[]): void {
  for (const name of names) {
    // The fake of Triton has files to clear away.
    const signal = name.endsWith('gate') ? 'SIGTERM' : 'SIGKILL';
    const processId = processOf(name);
    if (processId !== undefined) process.kill(processId, signal);
    rmSync(containerPath(name), { force: true });
  }
}

/** Where a container's path lies on this machine, by the `--volume` arguments. */
function hostPath(path: string): { path: string; isWritable: boolean } {
  for (const [index, argument] of arguments_.entries()) {
    const [host, inside, mode] = (arguments_[index + 1] ?? '').split(':');
    if (argument !== '--volume' || !inside || !path.startsWith(`${inside}/`)) continue;
    return { path: join(host ?? '', path.slice(inside.length)), isWritable: mode !== 'ro' };
  }
  return refuse(`no volume holds ${path}`);
}

/** What NVIDIA's entrypoint prints, before it runs what it was given. */
const BANNER = `
=============================
== Triton Inference Server ==
=============================

NOTE: The SHMEM allocation limit is set to the default of 64MB. NVIDIA recommends
   docker run --gpus all --ipc=host --ulimit memlock=-1 --ulimit stack=67108864 ...

`;

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

async function trtexec(line: readonly string[]): Promise<void> {
  process.stdout.write(BANNER);
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
  const graph = hostPath(options.get('onnx') ?? '');
  if (!existsSync(graph.path)) fail(`Could not open file ${options.get('onnx')}`);
  const plan = hostPath(options.get('saveEngine') ?? '');
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
  // Until somebody removes the container.
  if (process.env.FAKE_ENDLESS) await new Promise(() => setInterval(() => {}, 60_000));
  const layers = process.env.FAKE_LAYERS ?? '_gemm_mha_v2_myl0_12';
  const info = hostPath(options.get('exportLayerInfo') ?? '');
  writeFileSync(info.path, JSON.stringify({ Layers: layers.split(','), Bindings: [] }));
  const isSecond = existsSync(join(STATE, 'built'));
  writeFileSync(join(STATE, 'built'), '');
  const { FAKE_GRAPH: first, FAKE_SECOND_GRAPH: second } = process.env;
  writeFileSync(plan.path, (isSecond ? second : undefined) ?? first ?? graph.path);
  process.stdout.write('&&&& PASSED TensorRT.trtexec\n');
}

async function runTriton(): Promise<void> {
  if (process.env.FAKE_TRITON_LOG) {
    // A Triton that has ended by the time that anybody asks.
    writeFileSync(join(STATE, 'triton.log'), process.env.FAKE_TRITON_LOG);
    writeFileSync(ADDRESS, '');
    claim('ended');
    process.stdout.write(`${CONTAINER}\n`);
    return;
  }
  const repository = hostPath('/models/x').path.slice(0, -2);
  const model = arguments_.find((one) => one.startsWith('--load-model='))?.split('=')[1] ?? '';
  const script = join(import.meta.dir, 'fake-docker-triton.ts');
  const child = Bun.spawn([process.execPath, script, repository, model], {
    // Our own streams would stay open for as long as it lives, and whoever reads them would wait.
    stdio: ['ignore', 'pipe', Bun.file(join(STATE, 'triton.log'))],
    detached: true,
  });
  claim(child.pid);
  // One that cannot load its model prints none; the address of another must not stand for it.
  writeFileSync(ADDRESS, '');
  // Its one line is its address. The real Docker would not wait for it; who asks for the port next
  // would have to.
  for await (const piece of child.stdout) {
    writeFileSync(ADDRESS, piece);
    break;
  }
  child.unref();
  process.stdout.write(`${CONTAINER}\n`);
}

async function run(): Promise<void> {
  if (process.env.FAKE_DAEMON) refuseAsDaemon(process.env.FAKE_DAEMON);
  if (!/^device=[\w-]+$/.test(optionOf('--gpus'))) refuse('not one GPU for the container');
  if (!arguments_.includes('--init')) refuse('nobody hands signals on');
  if (arguments_.includes('--entrypoint')) refuse("NVIDIA's entrypoint is left out");
  if (arguments_.includes('tritonserver')) return runTriton();
  const shell = arguments_.indexOf('sh');
  if (arguments_[shell + 1] !== '-c') refuse(`does not know ${arguments_.join(' ')}`);
  claim(process.pid);
  process.on(
    'exit',
    () => arguments_.includes('--rm') && rmSync(containerPath(optionOf('--name'))),
  );
  await trtexec(arguments_.slice(shell + 4));
}

const PULLED = join(STATE, 'pulled');
const [verb, ...rest] = arguments_;
const last = rest.at(-1) ?? '';
if (verb === 'info') {
  if (process.env.FAKE_DENIED) {
    process.stderr.write(`${process.env.FAKE_DENIED}\n`);
    process.exit(1);
  }
  process.stdout.write(`${STATE}\n`);
} else if (verb === 'image') {
  if (process.env.FAKE_UNPULLED && !existsSync(PULLED)) process.exit(1);
  process.stdout.write(`sha256:${'ab'.repeat(32)}\n`);
} else if (verb === 'pull') {
  process.stdout.write(`${last}: Pulling fs layer\n`);
  if (process.env.FAKE_UNPULLED === 'for ever') process.exit(1);
  writeFileSync(PULLED, '');
} else if (verb === 'port') process.stdout.write(readFileSync(ADDRESS));
else if (verb === 'inspect') process.stdout.write(`${processOf(last) !== undefined}\n`);
else if (verb === 'logs') process.stdout.write(readFileSync(join(STATE, 'triton.log')));
else if (verb === 'rm') remove(rest.slice(1));
else if (verb === 'run') await run();
else refuse(`does not know ${arguments_.join(' ')}`);
