import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { until } from '../../../src/testing/until.ts';
import { findDebianProgram } from '../../ci/unpack-debian.ts';

/** A balancer in front of servers on the loopback. */
export interface RunningHaproxy {
  readonly url: string;
  /** Waits until its health checks have seen a server come up, or go down. */
  untilServer(index: number, state: 'UP' | 'DOWN'): Promise<void>;
  stop(): Promise<void>;
}

/**
 * HAProxy of the machine or of Debian's package, which is unpacked for it. It asks `/ready` every
 * half second, twice before it believes it, and sends each request to the server with the fewest.
 *
 * @param options.retries its own second tries, to another server: 0 as most balancers of clouds.
 */
export async function startHaproxy(options: {
  readonly servers: readonly string[];
  readonly port: number;
  readonly retries: number;
  /** A folder for its configuration. */
  readonly folder: string;
}): Promise<RunningHaproxy> {
  const { servers, port, retries, folder } = options;
  const path = join(folder, 'haproxy.cfg');
  const lines = servers.map((url, index) => `  server pod${index} ${new URL(url).host}`);
  await Bun.write(
    path,
    `global
  maxconn 2000
defaults
  mode http
  retries ${retries}
  ${retries > 0 ? '' : 'no '}option redispatch
  timeout connect 1s
  timeout client 30s
  timeout server 30s
frontend callers
  bind 127.0.0.1:${port}
  use_backend stats if { path_beg /balancer }
  default_backend pods
backend stats
  stats enable
  stats uri /balancer
backend pods
  balance leastconn
  option httpchk GET /ready
  default-server check inter 500ms fall 2 rise 2
${lines.join('\n')}
`,
  );
  const { program, environment } = findDebianProgram('haproxy', 'haproxy');
  const child = Bun.spawn([program, '-f', path, '-db'], {
    env: { ...process.env, ...environment },
    stdin: 'ignore',
    stdout: 'ignore',
    stderr: 'pipe',
  });
  const url = `http://127.0.0.1:${port}`;
  const stateOf = async (index: number): Promise<string> => {
    const reply = await fetch(`${url}/balancer;csv`).catch(() => undefined);
    const row = (await reply?.text())
      ?.split('\n')
      .find((line) => line.startsWith(`pods,pod${index},`));
    return row?.split(',')[17] ?? '';
  };
  return {
    url,
    untilServer: (index, state) =>
      until(`the balancer sees pod${index} ${state}`, async () =>
        (await stateOf(index)).startsWith(state),
      ),
    async stop() {
      child.kill('SIGTERM');
      await child.exited;
      await rm(path);
    },
  };
}
