import { join } from 'node:path';
import { freePorts } from '../../../src/testing/triton/free-ports.ts';
import { MODELS_DIR } from '../run-scenario.ts';
import { TRITON_MODEL } from './bench-triton.ts';
import { setUpReplacedVenv } from './replaced-venv.ts';

const SOURCE = join(import.meta.dir, '../replaced-service');

/** It imports half of transformers. */
const READY_MS_MAX = 60_000;
const POLL_MS = 50;

/** The replaced kind of service, running. */
export interface ReplacedProcess {
  readonly url: string;
  readonly pid: number;
  stop(): Promise<void>;
}

/**
 * Starts the replaced kind of service on a free port of the loopback, by uvicorn with its defaults,
 * as such services run.
 *
 * @throws Error with what it said, when it does not come up.
 */
export async function startReplacedService(tritonUrl: string): Promise<ReplacedProcess> {
  const python = setUpReplacedVenv();
  const [port] = freePorts(1);
  const child = Bun.spawn([python, '-m', 'uvicorn', 'main:app', '--port', String(port)], {
    cwd: SOURCE,
    stdio: ['ignore', 'ignore', 'pipe'],
    env: {
      PATH: process.env.PATH ?? '',
      HF_HUB_OFFLINE: '1',
      PYTHONDONTWRITEBYTECODE: '1',
      // The same tokenizer as BGE-M3's; this folder also has the file that says which class reads
      // it.
      TOKENIZER: join(MODELS_DIR, 'multilingual-e5-small'),
      TRITON: tritonUrl,
      MODEL: TRITON_MODEL,
    },
  });
  const said = new Response(child.stderr).text();
  const stop = async (): Promise<void> => {
    child.kill();
    await child.exited;
  };
  const url = `http://127.0.0.1:${port}`;
  for (const deadlineMs = performance.now() + READY_MS_MAX; ; ) {
    const health = await fetch(`${url}/health`, { keepalive: false }).catch(() => undefined);
    if (health?.ok === true) return { url, pid: child.pid, stop };
    if (child.exitCode !== null || performance.now() > deadlineMs) {
      await stop();
      throw new Error(`The replaced service did not start:\n${(await said).slice(-1500)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
