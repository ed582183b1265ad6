import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findProgram } from '../programs/find-program.ts';
import { startServer } from '../start-server.ts';
import { freePorts } from '../triton/free-ports.ts';
import { until } from '../until.ts';

/** An nginx that listens on the loopback. */
export interface RunningProxy extends AsyncDisposable {
  readonly url: string;
}

/**
 * Starts a server on a Unix socket, and an nginx with this configuration before it.
 *
 * @param configuration as a user has it below `conf.d`; its socket and its port are replaced.
 */
export async function nginxBefore(configuration: string): Promise<RunningProxy> {
  const folder = mkdtempSync(join(tmpdir(), 'nginx-'));
  const socket = join(folder, 'encoder.sock');
  const server = await startServer({ UNIX_SOCKET: socket, UNIX_SOCKET_MODE: '660' });
  const [port] = freePorts(1);
  const url = `http://127.0.0.1:${port}`;
  const file = join(folder, 'nginx.conf');
  await Bun.write(file, wholeConfiguration({ folder, socket, port, configuration }));
  const { path, environment } = findProgram('nginx');
  const proxy = Bun.spawn([path, '-c', file, '-e', join(folder, 'error.log')], {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  await until('nginx answers', async () => {
    if (proxy.exitCode !== null) throw new Error(await new Response(proxy.stderr).text());
    return await fetch(`${url}/ready`).then(
      (reply) => reply.ok,
      () => false,
    );
  });
  return {
    url,
    async [Symbol.asyncDispose]() {
      proxy.kill('SIGTERM');
      await proxy.exited;
      await server.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function wholeConfiguration(options: {
  folder: string;
  socket: string;
  port: number;
  configuration: string;
}): string {
  const { folder, socket, port, configuration } = options;
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${join(folder, name)};`,
  );
  const here = configuration
    .replace(/unix:[^;]+/, `unix:${socket}`)
    .replace(/listen 80;/, `listen 127.0.0.1:${port};`);
  const user = process.getuid?.() === 0 ? 'user root;' : '';
  return `${user} daemon off; pid ${join(folder, 'pid')}; events {}
http { access_log off; ${temporary.join(' ')}
${here}}`;
}
