/**
 * A project folder in which run.sh finds fakes for every program that it calls, and nothing
 * else.
 */
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = mkdtempSync(join(tmpdir(), 'run-sh-'));

/** Removes every harness. */
export function removeRunFolders(): void {
  rmSync(root, { recursive: true, force: true });
}

/** The Bun that the project wants, and that the fake says it is. */
export const BUN_VERSION = '9.8.7';

// Writes down how it was called, then does as little as the real program must. `FAIL` names the
// call that fails.
const BUN = `
case "$1" in
  --version) echo "\${STUB_VERSION:-${BUN_VERSION}}"; exit ;;
esac
echo "bun $* [$BACKEND $MODEL $TRITON_URL $PORT $HOST] $$" >>"$CALLS"
case "$FAIL" in "") ;; *) case "$*" in *"$FAIL"*) echo "error: planted" >&2; exit 3 ;; esac ;; esac
case "$1" in
  install) mkdir -p node_modules ;;
  src/provision/export.ts) [ "$2" != --check ] || [ -f models/bge_model/1/model.plan ] || exit 1 ;;
  src/provision/setup.ts)
    mkdir -p "$7/$3"; echo x >"$7/$3/file"
    stat -c '%s %Y %n' "$7/$3/file" >"$7/$3/.setup-$5" ;;
esac
`;

const NPM = `
echo "npm $*" >>"$CALLS"
if [ "$FAIL" = npm ]; then
  echo "npm ERR! 404 planted" >&2; echo "npm ERR! A complete log" >&2; exit 1
fi
for last in "$@"; do :; done
mkdir -p ".tools/bun/node_modules/\${last%@*}/bin"
cp "$STUBS/bun-program" ".tools/bun/node_modules/\${last%@*}/bin/bun"
`;

const DOCKER = `
echo "docker $* [$MODEL]" >>"$CALLS"
[ -n "$FAIL" ] && case "$*" in *"$FAIL"*) exit 1 ;; esac
exit 0
`;

const TOOLS = [
  ...['bash', 'sh', 'cat', 'chmod', 'cp', 'flock', 'grep', 'kill', 'ln', 'mkdir', 'rm', 'sleep'],
  ...['stat', 'uname', 'python3', 'env'],
];

/** A project folder and the programs that its run.sh finds. */
export interface RunHarness {
  readonly folder: string;
  /** Where the fakes lie: all of the PATH. */
  readonly stubs: string;
  /**
   * Runs run.sh with these arguments; of the environment it sees only `env` and what the fakes
   * need.
   */
  run(args: readonly string[], env?: Readonly<Record<string, string>>): Promise<RunOutcome>;
}

/** How a run of run.sh ended. */
export interface RunOutcome {
  readonly status: number;
  /** One line for each call of a fake during this run. */
  readonly calls: readonly string[];
  /** Lines on standard error. */
  readonly said: readonly string[];
  readonly output: string;
  readonly processId: number;
}

let harnessCount = 0;

/**
 * Makes a project folder with run.sh, and a PATH that holds only the fakes asked for and plain
 * tools.
 */
export function createRunHarness(
  ...programs: readonly ('bun' | 'npm' | 'docker' | 'nvidia-smi')[]
): RunHarness {
  harnessCount++;
  const folder = join(root, `project-${harnessCount}`);
  const stubs = join(root, `stubs-${harnessCount}`);
  mkdirSync(join(folder, 'models/bge_model/1'), { recursive: true });
  mkdirSync(stubs);
  cpSync('run.sh', join(folder, 'run.sh'));
  writeFileSync(join(folder, 'package.json'), `{ "engines": { "bun": "${BUN_VERSION}" } }`);
  writeFileSync(join(folder, 'bun.lock'), 'lock 1');
  const sources = {
    bun: BUN,
    npm: NPM,
    docker: DOCKER,
    'nvidia-smi': 'exit 0',
    'bun-program': BUN,
  };
  for (const name of [...programs, 'bun-program'] as const) {
    writeFileSync(join(stubs, name), `#!/bin/bash\n${sources[name]}`, { mode: 0o755 });
  }
  for (const tool of TOOLS) {
    const path = Bun.which(tool);
    if (path !== null) symlinkSync(path, join(stubs, tool));
  }
  return { folder, stubs, run: (args, env = {}) => runIn({ folder, stubs, args, env }) };
}

async function runIn(options: {
  readonly folder: string;
  readonly stubs: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}): Promise<RunOutcome> {
  const { folder, stubs, args, env } = options;
  const calls = join(stubs, 'calls');
  writeFileSync(calls, '');
  const child = Bun.spawn(['./run.sh', ...args], {
    cwd: folder,
    env: { PATH: stubs, CALLS: calls, STUBS: stubs, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [output, complaints] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return {
    status: await child.exited,
    calls: (await Bun.file(calls).text()).split('\n').filter((line) => line !== ''),
    said: complaints.split('\n').filter((line) => line !== ''),
    output,
    processId: child.pid,
  };
}

/** The calls without what the fakes note of environment and process. */
export function commandsOf({ calls }: RunOutcome): string[] {
  return calls.map((call) => call.replace(/ \[.*$/, ''));
}
