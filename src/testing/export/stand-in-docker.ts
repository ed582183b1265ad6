/**
 * Stands in for `docker` where there is none: knows the calls of the export and no other, and
 * checks their arguments as the real programs behind them would. Each call is added to
 * `calls.jsonl` in the folder that `STAND_IN_STATE` names.
 *
 * An "engine" that its `trtexec` builds is a file with the path of the graph to run,
 * `STAND_IN_GRAPH` or the one that it was given; its `tritonserver` is a real one, with ONNX
 * Runtime behind it.
 */
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { recordedHelp } from '../../../scripts/export/engine/trtexec-options.ts';

const STATE = process.env.STAND_IN_STATE ?? '';
const VERSION = Number(process.env.STAND_IN_TENSORRT ?? '101302');
const ADDRESS = join(STATE, 'address');
const CONTAINER = 'c0ffee'.repeat(10).concat('0000');
const arguments_ = process.argv.slice(2);
appendFileSync(join(STATE, 'calls.jsonl'), `${JSON.stringify(arguments_)}\n`);

function refuse(words: string): never {
  process.stderr.write(`stand-in docker: ${words}\n`);
  process.exit(125);
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

function trtexec(line: readonly string[]): void {
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
  const options = new Map(
    line.map((argument) => {
      const [name = '', ...value] = argument.replace(/^--/, '').split('=');
      return [name, value.join('=')] as const;
    }),
  );
  for (const name of options.keys()) {
    if (!help.includes(`--${name} `)) fail(`Unknown option: --${name}`);
  }
  if (VERSION < 110_000 && !options.has('stronglyTyped')) fail('The network is weakly typed');
  for (const name of ['minShapes', 'optShapes', 'maxShapes']) {
    const shape = options.get(name) ?? '';
    if (!/^input_ids:(\d+x\d+),attention_mask:\1$/.test(shape)) fail(`Bad --${name}=${shape}`);
  }
  const graph = hostPath(options.get('onnx') ?? '');
  if (!existsSync(graph.path)) fail(`Could not open file ${options.get('onnx')}`);
  const plan = hostPath(options.get('saveEngine') ?? '');
  if (graph.isWritable || !plan.isWritable) fail('A volume has the wrong mode');
  if (process.env.STAND_IN_FAIL) fail(process.env.STAND_IN_FAIL);
  writeFileSync(plan.path, process.env.STAND_IN_GRAPH ?? graph.path);
  process.stdout.write('&&&& PASSED TensorRT.trtexec\n');
}

async function runTriton(): Promise<void> {
  const repository = hostPath('/models/x').path.slice(0, -2);
  const model = arguments_.find((one) => one.startsWith('--load-model='))?.split('=')[1] ?? '';
  const script = join(import.meta.dir, 'stand-in-triton.ts');
  const child = Bun.spawn([process.execPath, script, repository, model], {
    // Our own streams would stay open for as long as it lives, and whoever reads them would wait.
    stdio: ['ignore', 'pipe', Bun.file(join(STATE, 'triton.log'))],
    detached: true,
  });
  writeFileSync(join(STATE, 'pid'), String(child.pid));
  // Its one line is its address. The real Docker would not wait for it; who asks for the port next
  // would have to.
  for await (const piece of child.stdout) {
    writeFileSync(ADDRESS, piece);
    break;
  }
  child.unref();
  process.stdout.write(`${CONTAINER}\n`);
}

function isAlive(): boolean {
  try {
    return process.kill(Number(readFileSync(join(STATE, 'pid'), 'utf8')), 0);
  } catch {
    return false;
  }
}

const [verb] = arguments_;
const entry = arguments_.indexOf('-c');
if (verb === 'image') process.stdout.write(`sha256:${'ab'.repeat(32)}\n`);
else if (verb === 'port') process.stdout.write(readFileSync(ADDRESS));
else if (verb === 'logs') process.exit(isAlive() ? 0 : 1);
else if (verb === 'stop') process.kill(Number(readFileSync(join(STATE, 'pid'), 'utf8')), 'SIGTERM');
else if (verb === 'run' && !arguments_.includes('--gpus')) refuse('no GPU for the container');
else if (verb === 'run' && arguments_.includes('tritonserver')) await runTriton();
else if (verb === 'run' && entry > 0) trtexec(arguments_.slice(entry + 3));
else refuse(`does not know ${arguments_.join(' ')}`);
