/**
 * Installs the runtimes that the client's package is tried in into `.tools/client-runtimes`: their
 * npm packages hold the programs themselves. Does nothing, in milliseconds, where they stand. `bun
 * scripts/ci/client-runtimes-setup.ts`
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../../src/provision/run-command.ts';
import {
  CLIENT_RUNTIMES,
  CLIENT_RUNTIMES_FOLDER,
  type ClientRuntime,
} from '../../src/testing/programs/client-runtimes.ts';

const NAMES = Object.keys(CLIENT_RUNTIMES) as ClientRuntime[];

/** The package of this machine's platform. */
function packageOf(name: ClientRuntime): string {
  const { version } = CLIENT_RUNTIMES[name];
  const { platform, arch } = process;
  if (name !== 'deno') return `npm:node-${platform}-${arch}@${version}`;
  return `npm:@deno/${platform}-${arch}${platform === 'linux' ? '-glibc' : ''}@${version}`;
}

const dependencies = Object.fromEntries(NAMES.map((name) => [name, packageOf(name)]));
const stamp = join(CLIENT_RUNTIMES_FOLDER, 'stamp.json');
const wanted = JSON.stringify(dependencies, null, 2);

if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== wanted) {
  console.log(`client-runtimes-setup: installing ${NAMES.join(', ')}, 360 MB on the disk`);
  rmSync(CLIENT_RUNTIMES_FOLDER, { recursive: true, force: true });
  await mkdir(CLIENT_RUNTIMES_FOLDER, { recursive: true });
  const manifest = { private: true, dependencies };
  await Bun.write(join(CLIENT_RUNTIMES_FOLDER, 'package.json'), JSON.stringify(manifest));
  const command = [
    'npm',
    'install',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--no-progress',
  ];
  const { exitCode, output } = await runCommand(command, { cwd: CLIENT_RUNTIMES_FOLDER });
  if (exitCode !== 0) {
    console.error(`client-runtimes-setup: npm could not install them.\n${output}`);
    process.exit(1);
  }
  // Headers and manuals: half of the disk that they take.
  for (const name of NAMES) {
    for (const folder of ['include', 'share']) {
      const path = join(CLIENT_RUNTIMES_FOLDER, 'node_modules', name, folder);
      rmSync(path, { recursive: true, force: true });
    }
  }
  writeFileSync(stamp, wanted);
}
