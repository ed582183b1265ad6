import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { until } from '../until.ts';

const ROOT = join(import.meta.dir, '../../..');

/** What `run.sh` reads and what it is set up with. */
const LINKED = [
  ...['package.json', 'bun.lock', 'bunfig.toml', 'tsconfig.json', 'LICENSE', 'dist', 'Dockerfile'],
  ...['src', 'workers', 'scripts', 'models', 'node_modules'],
];

/**
 * What a reader of the README has before them: the project as its two commands leave it, a server
 * that `./run.sh` started in it, and a project of their own beside it.
 */
export interface ReadmePlace {
  /** The project: everything is linked, so that `.env`, locks and logs are its own. */
  readonly project: string;
  /** The reader's own project, in which nothing is installed yet. */
  readonly app: string;
  /** `http://127.0.0.1:port` of the server. */
  readonly url: string;
  /** A text of the README with this server's address in place of the usual one. */
  here(text: string): string;
  /** Starts another server in the project, on a port of its own. @throws Error with what it said. */
  serve(command: string): Promise<RunningServe>;
  /** Runs a shell command. @returns its standard output. @throws Error with what it said. */
  shell(command: string, options: ShellOptions): Promise<string>;
  close(): Promise<void>;
}

/** A server that a command of the README has started. */
export interface RunningServe {
  /** `http://127.0.0.1:port`, or with `https`. */
  readonly url: string;
  stop(): Promise<void>;
}

/** Where a command runs, and with what beside the place's own environment. */
export interface ShellOptions {
  readonly folder: string;
  readonly environment?: Readonly<Record<string, string>>;
}

/**
 * @param options.command starts the server.
 * @param options.environment settings of the server.
 */
export async function createReadmePlace(options: {
  command: string;
  environment: Readonly<Record<string, string>>;
}): Promise<ReadmePlace> {
  const folder = mkdtempSync(join(tmpdir(), 'readme-'));
  const project = join(folder, 'bge-m3-encoder');
  const app = join(folder, 'app');
  mkdirSync(join(project, '.tools/stamps'), { recursive: true });
  mkdirSync(app);
  writeFileSync(join(app, 'package.json'), '{ "type": "module" }');
  cpSync(join(ROOT, 'run.sh'), join(project, 'run.sh'));
  for (const name of LINKED) symlinkSync(join(ROOT, name), join(project, name));
  // The dependencies are those of the tests, which are all.
  cpSync(join(ROOT, 'bun.lock'), join(project, '.tools/stamps/dependencies-all'));
  const common = {
    PATH: `${dirname(process.execPath)}:${process.env.PATH ?? ''}`,
    HOME: folder,
    LC_ALL: 'C.UTF-8',
    // The reader has a network; the tests may have none.
    npm_config_offline: 'true',
    npm_config_audit: 'false',
  };
  const environment = { ...common, ...options.environment };
  const server = await startServe(options.command, { folder: project, environment });
  const { url } = server;
  return {
    project,
    app,
    url,
    serve: (command) => startServe(command, { folder: project, environment }),
    here: (text) => text.replaceAll('localhost:8080', new URL(url).host),
    async shell(command, { folder: cwd, environment = {} }) {
      const env = { ...common, ...environment };
      const child = Bun.spawn(['bash', '-euo', 'pipefail', '-c', command], {
        cwd,
        env,
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      const [out, errors, status] = await Promise.all([
        new Response(child.stdout).text(),
        new Response(child.stderr).text(),
        child.exited,
      ]);
      if (status !== 0) throw new Error(`${command} ended with ${status}: ${out}${errors}`);
      return out;
    },
    async close() {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function startServe(
  command: string,
  { folder, environment }: Required<ShellOptions>,
): Promise<RunningServe> {
  // `env`, so that settings may stand before the command.
  const server = Bun.spawn(['bash', '-c', `exec env ${command}`], {
    cwd: folder,
    env: { PORT: '0', HOST: '127.0.0.1', SHUTDOWN_DELAY_MS: '0', ...environment },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  const decoder = new TextDecoder();
  const reading = (async () => {
    for await (const piece of server.stderr) said += decoder.decode(piece, { stream: true });
  })();
  const banner = /^[^{\n]* on embedded, (https?:\/\/127\.0\.0\.1:\d+)/m;
  await until(`${command} serves`, () => {
    if (server.exitCode !== null) throw new Error(`${command} ended: ${said}`);
    return banner.test(said);
  });
  const url = banner.exec(said)?.[1] ?? '';
  // Who trusts its certificate is for the README to say.
  const tls = { rejectUnauthorized: false };
  await until('the server is ready', async () => (await fetch(`${url}/ready`, { tls })).ok);
  return {
    url,
    async stop() {
      server.kill('SIGTERM');
      await Promise.all([server.exited, reading]);
    },
  };
}
