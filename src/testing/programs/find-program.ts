import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** Programs that the tests run and that no package of ours brings. */
export type ProgramName = 'chromium' | 'prometheus' | 'promtool' | 'nginx';

/** A program, and what its environment must hold beside the test's own. */
export interface Program {
  readonly path: string;
  readonly environment: Readonly<Record<string, string>>;
}

/** Where `scripts/ci/test-programs.ts` unpacks what the machine itself lacks. */
export const PROGRAMS_FOLDER = join(import.meta.dir, '../../../.tools/programs');

/** Every name that a distribution gives the program. */
const NAMES: Readonly<Record<ProgramName, readonly string[]>> = {
  chromium: ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'],
  prometheus: ['prometheus'],
  promtool: ['promtool'],
  nginx: ['nginx'],
};

/** Where Debian's packages put it. */
const UNPACKED: Readonly<Record<ProgramName, string>> = {
  chromium: 'usr/lib/chromium/chromium',
  prometheus: 'usr/bin/prometheus',
  promtool: 'usr/bin/promtool',
  nginx: 'usr/sbin/nginx',
};

/** The program of this machine, or the one that was unpacked; undefined when there is neither. */
export function lookForProgram(name: ProgramName): Program | undefined {
  for (const known of NAMES[name]) {
    const path = Bun.which(known);
    if (path !== null) return { path, environment: {} };
  }
  const path = join(PROGRAMS_FOLDER, UNPACKED[name]);
  return existsSync(path) ? { path, environment: unpackedEnvironment() } : undefined;
}

/** The same. @throws Error that names the set-up when there is no such program. */
export function findProgram(name: ProgramName): Program {
  const program = lookForProgram(name);
  if (program !== undefined) return program;
  throw new Error(`There is no ${name}: bun scripts/ci/test-programs.ts installs it.`);
}

/** Libraries and fonts that were unpacked beside a program. */
function unpackedEnvironment(): Record<string, string> {
  const triplet = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
  const libraries = ['usr/lib', 'lib'].flatMap((folder) => [
    join(PROGRAMS_FOLDER, folder, triplet),
    join(PROGRAMS_FOLDER, folder, triplet, 'pulseaudio'),
  ]);
  const fonts = join(PROGRAMS_FOLDER, 'etc/fonts');
  return {
    LD_LIBRARY_PATH: libraries.join(':'),
    XDG_DATA_HOME: join(PROGRAMS_FOLDER, 'usr/share'),
    ...(existsSync(join(fonts, 'fonts.conf')) ? { FONTCONFIG_PATH: fonts } : {}),
  };
}
