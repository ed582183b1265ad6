import { statfs } from 'node:fs/promises';
import { demand } from '../../provision-error.ts';
import { runCommand, runVisibly } from '../../run-command.ts';
import { dockerImageId, dockerRoot } from './docker-commands.ts';
import { adviceFor, dockerFailure } from './failure.ts';

/** Of Triton's image with all its backends, 25.08; others are about as large. */
const PULL_GIGABYTES = 8;
const DISK_GIGABYTES = 16;

/**
 * Demands a Docker that answers, before anything is downloaded for it.
 *
 * @returns the folder where it keeps its images.
 * @throws ProvisionError with Docker's own words.
 */
export async function checkDocker(): Promise<string> {
  const { exitCode, output } = await runCommand(['docker', ...dockerRoot()]);
  demand(
    exitCode === 0,
    `The engine is built in Docker, which does not answer: ${dockerFailure(output)}.` +
      `${adviceFor(output)} Or stop before: --graph-only.`,
  );
  return output.trim();
}

/** Docker's id of an image's content; undefined when Docker is not there or has not pulled it. */
export async function findImageId(image: string): Promise<string | undefined> {
  try {
    const answer = await runCommand(['docker', ...dockerImageId(image)]);
    const id = /^sha256:[0-9a-f]{64}$/m.exec(answer.output)?.[0];
    return answer.exitCode === 0 ? id : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Pulls an image that is not there, with Docker's own progress for all to see.
 *
 * @throws ProvisionError
 */
export async function ensureImage(options: {
  readonly image: string;
  readonly say: (line: string) => void;
}): Promise<void> {
  const { image, say } = options;
  if ((await findImageId(image)) !== undefined) return;
  const root = await checkDocker();
  // Docker may be elsewhere, or keep its images in another place than it tells.
  const disk = await statfs(root).catch(() => undefined);
  say(describePull({ image, root, freeBytes: disk && disk.bavail * disk.bsize }));
  const exitCode = await runVisibly(['docker', 'pull', image]);
  demand(exitCode === 0, `docker pull ${image} failed: the lines above say why.`);
}

/** What a pull costs, and whether the disk has that much; no number without `freeBytes`. */
export function describePull(options: {
  readonly image: string;
  readonly root: string;
  readonly freeBytes: number | undefined;
}): string {
  const { image, root, freeBytes } = options;
  const cost = `pulling ${image}: about ${PULL_GIGABYTES} GB, which take ${DISK_GIGABYTES} GB of disk`;
  if (freeBytes === undefined) return cost;
  const free = `${root} has ${(freeBytes / 1e9).toFixed(1)} GB free`;
  return freeBytes < DISK_GIGABYTES * 1e9 ? `${cost}; ${free}: too little` : `${cost}; ${free}`;
}
