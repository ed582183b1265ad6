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
  /** Calls of the fake `docker`, argument by argument. */
  dockerCalls(): string[][];
  /** Starts `src/provision/export.ts`; without a signal, `kill` ends it as a crash would. */
  start(options?: { flags?: readonly string[]; environment?: Readonly<Record<string, string>> }): {
    ended: Promise<ExportRun>;
    kill(signal?: NodeJS.Signals): void;
  };
  close(): Promise<void>;
}

/**
 * @param options.gpus what `nvidia-smi` shall tell of each GPU: name, driver, compute capability.
 */
export async function createExportFixture(
  options: { readonly gpus?: readonly string[] } = {},
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
  writeProgram(
    programs,
    'docker',
    `exec "${process.execPath}" "${import.meta.dir}/fake-docker.ts" "$@"`,
  );
  const answers = (options.gpus ?? []).map((gpu, index) => `${index}) echo "${gpu}" ;;`);
  writeProgram(programs, 'nvidia-smi', `case "$2" in ${answers.join(' ')} *) exit 6 ;; esac`);
  const state = join(dir, 'state');
  mkdirSync(state);
  const calls = join(state, 'calls.jsonl');
  writeFileSync(calls, '');
  return {
    modelsDir,
    hub,
    dockerCalls: () =>
      readFileSync(calls, 'utf8')
        .trim()
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line)),
    start({ flags = [], environment = {} } = {}) {
      const script = join(import.meta.dir, '../../provision/export.ts');
      const line = ['--hub', hub.url, '--models-dir', modelsDir, '--model', 'small', ...flags];
      const child = Bun.spawn([process.execPath, script, ...line], {
        env: {
          ...process.env,
          PATH: `${programs}:${dirname(process.execPath)}:${process.env.PATH}`,
          FAKE_STATE: state,
          ...environment,
        },
        stdout: 'pipe',
        stderr: 'pipe',
      });
      const [errors, output] = [child.stderr, child.stdout].map((stream) =>
        new Response(stream).text(),
      );
      return {
        ended: child.exited.then(async (exitCode) => ({
          exitCode,
          errors: (await errors) ?? '',
          output: (await output) ?? '',
        })),
        kill: (signal = 'SIGKILL') => child.kill(signal),
      };
    },
    async close() {
      await hub.close();
      // What a test that failed left running would stay for ever.
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
