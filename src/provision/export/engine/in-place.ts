import type { Clock } from '../../../base/clock.ts';
import { demand } from '../../provision-error.ts';
import { type StartedCommand, startCommand } from '../../run-command.ts';
import { TRTEXEC_FOLDER } from './docker.ts';
import {
  candidateArguments,
  type EngineRunner,
  LOG_LINE_COUNT,
  type RunningCandidate,
} from './engine-runner.ts';

/** What the inside of Triton's image has. */
const PROGRAMS = ['trtexec', 'tritonserver', 'setpriv'];
/** They are ended politely, so that they clear their files away; but they hold the GPU's memory. */
const ENDING_MS_MAX = 10_000;
/** Triton waits so long for connections that are kept open; the gate needs them no more. */
const TRITON_EXIT_SECONDS = 1;

/**
 * Runs the programs of the container that this process is in: that of Triton's image, in a pod for
 * instance, where nobody starts containers.
 */
export function createInPlaceRunner(options: {
  readonly device: string;
  readonly clock: Clock;
}): EngineRunner {
  const { device, clock } = options;
  const env = {
    ...process.env,
    PATH: `${process.env.PATH}:${TRTEXEC_FOLDER}`,
    // CUDA counts the fastest GPU first, `nvidia-smi` the slots.
    CUDA_DEVICE_ORDER: 'PCI_BUS_ID',
    CUDA_VISIBLE_DEVICES: device,
  };
  const running = new Set<StartedCommand>();

  /** Starts a program that ends with this process, even when that is killed. */
  function start(program: string, line: readonly string[]): StartedCommand {
    const prefix = ['setpriv', '--pdeathsig', 'TERM', '--'];
    const child = startCommand([...prefix, program, ...line], { env });
    running.add(child);
    child.ended.finally(() => running.delete(child));
    return child;
  }

  async function end(child: StartedCommand): Promise<void> {
    child.kill('SIGTERM');
    const cancel = clock.schedule(ENDING_MS_MAX, () => child.kill('SIGKILL'));
    await child.ended;
    cancel();
  }

  return {
    place: 'here',
    async check() {
      const missing = PROGRAMS.filter((name) => Bun.which(name, { PATH: env.PATH }) === null);
      const words = missing.join(' and no ');
      demand(missing.length === 0, `--here is for the inside of Triton's image: no ${words} here.`);
    },
    prepare: async () => {},
    async findImageId() {
      const { output } = await start('trtexec', ['--help']).ended;
      const [, version, build] = /\[TensorRT v([\d.]+)\](?: \[(b\d+)\])?/.exec(output) ?? [];
      return version && ['TensorRT', version, build].filter(Boolean).join(' ');
    },
    async runTrtexec({ folders = { onnx: '', plan: '', cache: '' }, line }) {
      const words = line(folders);
      const result = await start('trtexec', words).ended;
      return { ...result, command: `trtexec ${words.join(' ')}` };
    },
    async startTriton({ repository, model }) {
      const port = freePort();
      const child = start('tritonserver', [
        ...candidateArguments(repository, model),
        ...['--http-address=127.0.0.1', `--http-port=${port}`],
        `--exit-timeout-secs=${TRITON_EXIT_SECONDS}`,
      ]);
      const url = `http://127.0.0.1:${port}`;
      return candidateOf(child, url, { isRunning: () => running.has(child), end });
    },
    clear: async () => void (await Promise.all([...running].map(end))),
  };
}

function candidateOf(
  child: StartedCommand,
  url: string,
  { isRunning, end }: { isRunning: () => boolean; end: (child: StartedCommand) => Promise<void> },
): RunningCandidate {
  return {
    findUrl: async () => url,
    isRunning: async () => isRunning(),
    async stop() {
      await end(child);
      const { output } = await child.ended;
      return output.split('\n').slice(-LOG_LINE_COUNT).join('\n');
    },
  };
}

/** Triton takes no port 0. In a container of its own nobody else takes this one meanwhile. */
function freePort(): number {
  const listener = Bun.listen({ hostname: '127.0.0.1', port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
