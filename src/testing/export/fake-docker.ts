/**
 * A fake `docker` where there is none: knows the calls of the export and no other, and
 * checks their arguments as the real programs behind them would. Each call is added to
 * `calls.jsonl` in the folder that `FAKE_STATE` names. A container is a file there, named as it
 * is, with the id of the process that runs in it, and the container stays as long as the file.
 *
 * Its `trtexec` is that of `fake-trtexec.ts`, its `tritonserver` a real one, with ONNX Runtime
 * behind it.
 */
import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runFakeTrtexec } from './fake-trtexec.ts';

const STATE = process.env.FAKE_STATE ?? '';
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
  process.stdout.write(BANNER);
  await runFakeTrtexec(arguments_.slice(shell + 4), hostPath);
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
