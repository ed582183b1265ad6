import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { foregroundClock } from '../../base/clock.ts';
import { verifyFile, writeFileAtomic } from '../../model/files.ts';
import type { Wheel } from '../../model/manifest-source.ts';
import { type Log, ProvisionError } from '../provision-error.ts';
import { runCommand } from '../run-command.ts';

/**
 * Downloads wheels with pip, which knows this machine's package index, proxy and certificates. A
 * wheel that is already there and right is kept, so that an interrupted set-up goes on where it
 * stopped.
 *
 * @param folder made when missing.
 * @returns the wheels' paths in the order asked, each verified.
 * @throws ProvisionError when Python or pip is missing, or a download fails.
 */
export async function downloadWheels(options: {
  readonly wheels: readonly Wheel[];
  readonly folder: string;
  readonly log: Log;
}): Promise<string[]> {
  const { wheels, folder, log } = options;
  const present = await Promise.all(wheels.map((wheel) => isPresent(folder, wheel)));
  const missing = wheels.filter((_, index) => !present[index]);
  if (missing.length > 0) {
    const bytes = missing.reduce((sum, wheel) => sum + wheel.bytes, 0);
    const names = missing.map((wheel) => `${wheel.name} ${wheel.version}`).join(', ');
    log(`downloading ${names} with pip (${formatMegabytes(bytes)})`);
    const stopProgress = reportProgress({ folder, bytes, log });
    try {
      await Promise.all(missing.map((wheel) => downloadWheel({ wheel, folder })));
    } finally {
      stopProgress();
    }
  }
  return wheels.map((wheel) => join(folder, wheel.file));
}

// pip says nothing useful for long when its output is no terminal, so the folder is looked at this
// often.
const PROGRESS_INTERVAL_MS = 2_000;

async function isPresent(folder: string, wheel: Wheel): Promise<boolean> {
  return verifyFile({ path: join(folder, wheel.file), ...wheel }).then(
    () => true,
    () => false,
  );
}

async function downloadWheel(options: { wheel: Wheel; folder: string }): Promise<void> {
  const { wheel, folder } = options;
  // pip refuses a file under the right name with the wrong hash; an interrupted download may have
  // left one.
  await rm(join(folder, wheel.file), { force: true });
  const temporary = join(folder, `${wheel.name}.tmp`);
  const requirements = join(temporary, 'requirements.txt');
  const requirement = `${wheel.name}==${wheel.version} --hash=sha256:${wheel.sha256}\n`;
  await writeFileAtomic(requirements, new TextEncoder().encode(requirement));
  try {
    await runPip({
      arguments: ['--require-hashes', '-r', requirements, '-d', folder, ...wheel.pipArguments],
      temporary,
      what: `${wheel.name} ${wheel.version}`,
    });
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  await verifyFile({ path: join(folder, wheel.file), ...wheel });
}

async function runPip(options: {
  readonly arguments: readonly string[];
  readonly temporary: string;
  readonly what: string;
}): Promise<void> {
  const fixed = [
    '--no-deps',
    '--only-binary=:all:',
    '--no-cache-dir',
    '--disable-pip-version-check',
  ];
  const command = ['python3', '-m', 'pip', 'download', ...fixed, ...options.arguments];
  const env = { ...process.env, TMPDIR: options.temporary };
  const pip = await runCommand(command, { env }).catch((error) => {
    throw new ProvisionError(
      'python3 is missing: install Python 3 with pip ' +
        '(Debian: apt-get install python3-pip python3-venv).',
      { cause: error },
    );
  });
  if (pip.exitCode === 0) return;
  if (pip.errors.includes('No module named pip')) {
    throw new ProvisionError(
      'python3 has no pip: install it (Debian: apt-get install python3-pip python3-venv).',
    );
  }
  throw new ProvisionError(
    `pip could not download ${options.what}: ${lastErrorOf(pip.errors)} ` +
      'Check the network and pip’s index settings, then run it again.',
  );
}

/** pip's own last word of the matter, on one line. */
function lastErrorOf(stderr: string): string {
  const lines = stderr.split('\n').map((line) => line.trim());
  const errors = lines.filter((line) => line.startsWith('ERROR:') && !line.includes('No matching'));
  const last = errors.at(-1) ?? lines.findLast((line) => line !== '') ?? 'no reason given';
  return last.replace(/^ERROR:\s*/, '').replace(/[.\s]*$/, '.');
}

function reportProgress(options: { folder: string; bytes: number; log: Log }): () => void {
  const { folder, bytes, log } = options;
  const report = async (): Promise<void> => {
    const done = Math.min(await folderBytes(folder).catch(() => 0), bytes);
    const percent = Math.floor((100 * done) / bytes);
    if (isEnded) return;
    log(`downloaded ${formatMegabytes(done)} of ${formatMegabytes(bytes)} (${percent} %)`);
    cancel = foregroundClock.schedule(PROGRESS_INTERVAL_MS, report);
  };
  let isEnded = false;
  let cancel = foregroundClock.schedule(PROGRESS_INTERVAL_MS, report);
  return () => {
    isEnded = true;
    cancel();
  };
}

async function folderBytes(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  const sizes = await Promise.all(
    // A file may go away between the two looks.
    files.map((entry) => stat(join(entry.parentPath, entry.name)).catch(() => ({ size: 0 }))),
  );
  return sizes.reduce((sum, { size }) => sum + size, 0);
}

function formatMegabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}
