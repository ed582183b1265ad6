import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Clock, sleep } from '../../../base/clock.ts';
import { ProvisionError } from '../../provision-error.ts';
import { runCommand } from '../../run-command.ts';
import {
  dockerIsRunning,
  dockerLogs,
  dockerPort,
  dockerRemove,
  dockerTriton,
  GATE_CONTAINER,
  parseDockerPort,
} from './docker-commands.ts';
import { adviceFor, dockerFailure, tritonFailure } from './failure.ts';

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
 * stopped. The end of its log stays in `triton-gate.log` of the folder.
 *
 * @throws ProvisionError with the line of Triton's log that matters when the model does not become
 * ready.
 */
export async function serveCandidate(options: {
  readonly image: string;
  readonly device: string;
  readonly repository: string;
  readonly model: string;
  readonly logFolder: string;
  readonly clock: Clock;
}): Promise<CandidateTriton> {
  const { model, clock } = options;
  const docker = (line: readonly string[]) => runCommand(['docker', ...line]);
  const logPath = join(options.logFolder, 'triton-gate.log');
  let log = '';
  const stop = async () => {
    log = (await docker(dockerLogs(GATE_CONTAINER))).output;
    await docker(dockerRemove(GATE_CONTAINER));
    await writeFile(logPath, log);
  };
  const line = dockerTriton({ ...options, repository: resolve(options.repository) });
  const started = await docker(line);
  if (started.exitCode !== 0) {
    await stop();
    const { output } = started;
    throw new ProvisionError(
      `Docker could not start Triton: ${dockerFailure(output)}${adviceFor(output)}`,
    );
  }
  const url = parseDockerPort((await docker(dockerPort(GATE_CONTAINER))).output);
  const deadline = clock.now() + READY_MS_MAX;
  while (url === undefined || !(await isReady(`${url}/v2/models/${model}/ready`))) {
    const state = await docker(dockerIsRunning(GATE_CONTAINER));
    // A container that has ended has no port either.
    if (url === undefined || state.output.trim() !== 'true' || clock.now() > deadline) {
      await stop();
      throw new ProvisionError(
        `Triton does not serve the engine: ${tritonFailure(log)} (more: ${logPath})${adviceFor(log)}`,
      );
    }
    await sleep(clock, PROBE_MS);
  }
  return { url, stop };
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
