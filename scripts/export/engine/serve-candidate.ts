import { resolve } from 'node:path';
import { type Clock, sleep } from '../../../src/base/clock.ts';
import { demand, ExportError } from '../export-error.ts';
import { runCommand } from '../run-command.ts';
import { dockerPort, dockerTriton, parseDockerPort } from './docker-commands.ts';

/** Reading a plan of more than a gigabyte from a cold disk, and the context's memory. */
const READY_MS_MAX = 300_000;
const PROBE_MS = 250;

/** A Triton that serves a candidate and nothing else. */
export interface CandidateTriton {
  readonly url: string;
  stop(): Promise<void>;
}

/**
 * Serves a model repository with the image that will serve it later, on loopback, until it is
 * stopped.
 *
 * @throws ExportError with the end of Triton's log when the model does not become ready.
 */
export async function serveCandidate(options: {
  readonly image: string;
  readonly gpus: string;
  readonly repository: string;
  readonly model: string;
  readonly clock: Clock;
}): Promise<CandidateTriton> {
  const { model, clock } = options;
  const line = dockerTriton({ ...options, repository: resolve(options.repository) });
  const started = await runCommand(['docker', ...line]);
  const container = /^[0-9a-f]{12,64}$/m.exec(started.output)?.[0];
  demand(
    started.exitCode === 0 && container !== undefined,
    `Docker could not start Triton: ${started.output.trim().split('\n').at(-1)}`,
  );
  const stop = async () => {
    await runCommand(['docker', 'stop', container]);
  };
  try {
    const { output } = await runCommand(['docker', ...dockerPort(container)]);
    const url = parseDockerPort(output);
    demand(url !== undefined, `Docker tells no port of Triton: "${output.trim()}".`);
    const deadline = clock.now() + READY_MS_MAX;
    while (!(await isReady(`${url}/v2/models/${model}/ready`))) {
      const state = await runCommand(['docker', 'logs', '--tail', '20', container]);
      if (state.exitCode !== 0 || clock.now() > deadline) {
        throw new ExportError(`Triton does not serve the engine:\n${state.output.trim()}`);
      }
      await sleep(clock, PROBE_MS);
    }
    return { url, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function isReady(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(5_000) });
    await response.arrayBuffer();
    return response.ok;
  } catch {
    return false;
  }
}
