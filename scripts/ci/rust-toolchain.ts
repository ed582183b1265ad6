import { join } from 'node:path';
import { run } from './go-toolchain.ts';
import { librariesOf, unpackDebian } from './unpack-debian.ts';

/** The oldest that builds ours: 1.85, as `rust-version` in its `Cargo.toml` says. */
const RUST_MINOR_MIN = 85;

/** The Rust that Debian keeps new for what it builds of browsers. Its compiler is `rustc`. */
const DEBIAN_PACKAGES = ['cargo-web', 'rustc-web'];

/**
 * Builds a package with Rust of this machine or of Debian, with caches of its own in a folder that
 * is thrown away.
 *
 * @returns the folder with its programs.
 * @throws Error whose message says what failed.
 */
export function buildRust(options: { manifest: string; work: string }): string {
  const { manifest, work } = options;
  if (Bun.which('cc') === null) throw new Error('install a C compiler: Rust links with its `cc`.');
  const target = join(work, 'target');
  const { cargo, environment } = findCargo(work);
  run([cargo, 'build', '--quiet', '--locked', '--manifest-path', manifest], {
    env: {
      ...process.env,
      ...environment,
      CARGO_HOME: join(work, 'cargo'),
      CARGO_TARGET_DIR: target,
    },
  });
  return join(target, 'debug');
}

interface Cargo {
  readonly cargo: string;
  readonly environment: Readonly<Record<string, string>>;
}

function findCargo(work: string): Cargo {
  const cargo = Bun.which('cargo');
  if (cargo !== null && minorOf('rustc') >= RUST_MINOR_MIN) return { cargo, environment: {} };
  const folder = join(work, 'rust');
  try {
    const missing = [`Rust 1.${RUST_MINOR_MIN} or later`];
    unpackDebian({ folder, withDependencies: DEBIAN_PACKAGES, missing });
  } catch (error) {
    const words = `no Rust 1.${RUST_MINOR_MIN} or later on the PATH, and Debian's cannot be had`;
    throw new Error(`${words}: ${(error as Error).message}`);
  }
  const programs = join(folder, 'usr/bin');
  return {
    cargo: join(programs, 'cargo'),
    environment: { ...librariesOf(folder), RUSTC: join(programs, 'rustc') },
  };
}

/** @returns 0 where there is none, or one that does not run: rustup's shims without a toolchain. */
function minorOf(rustc: string): number {
  if (Bun.which(rustc) === null) return 0;
  const { stdout } = Bun.spawnSync([rustc, '--version'], { stdout: 'pipe', stderr: 'ignore' });
  return Number(/^rustc 1\.(\d+)/.exec(stdout.toString())?.[1] ?? 0);
}
