import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { SMALL_MODEL_FOLDER } from '../golden/xlmr-small.ts';
import { type LoopbackHub, startLoopbackHub } from '../hub/loopback-hub.ts';

/** The repository and revision under which the test's hub has the small model. */
export const REPOSITORY = 'someone/small';
export const REVISION = 'c0ffee00'.repeat(5);
/** Everything that the small model has on the hub; the last is named by the graph alone. */
export const HUB_FILES = [
  'onnx/model.onnx',
  'onnx/model.onnx_data',
  'sparse_linear.pt',
  'colbert_linear.pt',
  'onnx/Constant_7_attr__value',
] as const;

/** How an export ended. */
export interface ExportRun {
  readonly exitCode: number;
  readonly errors: string;
  readonly output: string;
}

/**
 * A models folder, a hub that has the small model, and fakes for the programs of a GPU machine.
 */
export interface ExportFixture {
  readonly modelsDir: string;
  readonly hub: LoopbackHub;
  /** A folder of the test's own, of that name. */
  folder(name: string): string;
  /**
   * Calls of the fake programs, argument by argument: of `docker`, or of `trtexec` and
   * `tritonserver`, with their names and the GPU that they see in front.
   */
  calls(): string[][];
  /** In which the fake programs are found, and write what they are called with. */
  readonly environment: Readonly<Record<string, string>>;
  /** Starts `src/provision/export.ts`; without a signal, `kill` ends it as a crash would. */
  start(options?: { flags?: readonly string[]; environment?: Readonly<Record<string, string>> }): {
    ended: Promise<ExportRun>;
    /** Its standard error so far. */
    said(): string;
    kill(signal?: NodeJS.Signals): void;
  };
  close(): Promise<void>;
}

/**
 * @param options.isInPlace whether the programs are those of Triton's image, and there is no
 *   Docker.
 * @param options.gpus what `nvidia-smi` shall tell of each GPU: name, driver, compute capability.
 */
export async function createExportFixture(
  options: { readonly gpus?: readonly string[]; readonly isInPlace?: boolean } = {},
): Promise<ExportFixture> {
  const dir = mkdtempSync(join(tmpdir(), 'export-test-'));
  const hub = await startLoopbackHub();
  for (const path of HUB_FILES) {
    const content = readFileSync(join(SMALL_MODEL_FOLDER, 'hub', path.replace('onnx/', '')));
    hub.put({ repository: REPOSITORY, revision: REVISION, path, content });
  }
  const modelsDir = join(dir, 'models');
  writeModels(modelsDir);
  const programs = join(dir, 'bin');
  const fakes = options.isInPlace
    ? { trtexec: 'fake-trtexec.ts', tritonserver: 'fake-tritonserver.ts' }
    : { docker: 'fake-docker.ts' };
  for (const [name, script] of Object.entries(fakes)) {
    const path = join(import.meta.dir, script);
    writeProgram(programs, name, `exec "${process.execPath}" "${path}" "$@"`);
  }
  const answers = (options.gpus ?? []).map((gpu, index) => `${index}) echo "${gpu}" ;;`);
  writeProgram(programs, 'nvidia-smi', `case "$2" in ${answers.join(' ')} *) exit 6 ;; esac`);
  const state = join(dir, 'state');
  mkdirSync(state);
  const calls = join(state, 'calls.jsonl');
  const children: Bun.Subprocess[] = [];
  writeFileSync(calls, '');
  const own = {
    PATH: `${programs}:${dirname(process.execPath)}:${process.env.PATH}`,
    FAKE_STATE: state,
  };
  return {
    modelsDir,
    hub,
    environment: own,
    folder: (name) => join(dir, name),
    calls: () =>
      readFileSync(calls, 'utf8')
        .trim()
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line)),
    start({ flags = [], environment = {} } = {}) {
      const script = join(import.meta.dir, '../../provision/export.ts');
      const line = ['--hub', hub.url, '--models-dir', modelsDir, '--model', 'small', ...flags];
      const child = Bun.spawn([process.execPath, script, ...line], {
        env: { ...process.env, ...own, ...environment },
        stdout: 'pipe',
        stderr: 'pipe',
      });
      children.push(child);
      let said = '';
      const errors = (async () => {
        const decoder = new TextDecoder();
        for await (const piece of child.stderr) said += decoder.decode(piece, { stream: true });
      })();
      const output = new Response(child.stdout).text();
      return {
        ended: child.exited.then(async (exitCode) => {
          await errors;
          return { exitCode, errors: said, output: await output };
        }),
        said: () => said,
        kill: (signal = 'SIGKILL') => child.kill(signal),
      };
    },
    async close() {
      await hub.close();
      // What a test that failed left running would stay for ever.
      for (const child of children) child.kill('SIGKILL');
      await Promise.all(children.map(({ exited }) => exited));
      if (options.isInPlace) return rmSync(dir, { recursive: true, force: true });
      const containers = readdirSync(state).filter((name) => name.startsWith('container-'));
      const names = containers.map((name) => name.replace('container-', ''));
      const end = [join(programs, 'docker'), 'rm', '--force', ...names];
      await Bun.spawn(end, { env: { ...process.env, FAKE_STATE: state } }).exited;
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** The manifest of BGE-M3 and its config.pbtxt, cut down to the small model's sizes. */
function writeModels(modelsDir: string): void {
  const root = join(import.meta.dir, '../../..', 'models');
  const manifest = JSON.parse(readFileSync(join(root, 'bge-m3.json'), 'utf8'));
  manifest.id = 'small';
  manifest.dimension = 32;
  manifest.tokenCountMax = 512;
  const files = HUB_FILES.slice(0, 4).map((path) => ({ path }));
  manifest.source = { kind: 'hub', repository: REPOSITORY, revision: REVISION, files };
  mkdirSync(join(modelsDir, 'bge_model'), { recursive: true });
  writeFileSync(join(modelsDir, 'small.json'), JSON.stringify(manifest));
  cpSync(join(root, 'bge_model/config.pbtxt'), join(modelsDir, 'bge_model/config.pbtxt'));
  const config = join(modelsDir, 'bge_model/config.pbtxt');
  writeFileSync(config, readFileSync(config, 'utf8').replaceAll('1024', '32'));
}

function writeProgram(folder: string, name: string, body: string): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, name), `#!/bin/sh\n${body}\n`);
  chmodSync(join(folder, name), 0o755);
}
