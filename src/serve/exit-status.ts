import { ConfigError } from '../config/read.ts';
import { ManifestError } from '../model/manifest.ts';

/** Exit statuses, as `src/docs/faults.md` lists them. */
export const EXIT = { drained: 0, settings: 2, port: 3, backend: 4, killed: 130 } as const;

/** Says why, and ends the process. */
export function exit(status: number, message: string): never {
  say(message);
  process.exit(status);
}

/** Returns what `make` returns. Wrong settings and models end the process with their message. */
export function orExit<Value>(make: () => Value): Value {
  try {
    return make();
  } catch (error) {
    return exitOnKnown(error);
  }
}

/** Ends the process on wrong settings and models. @throws whatever else the error is. */
export function exitOnKnown(error: unknown): never {
  if (error instanceof ConfigError || error instanceof ManifestError) {
    exit(EXIT.settings, error.message);
  }
  throw error;
}

/** A line for people, on standard error. */
export function say(message: string): void {
  process.stderr.write(`${message}\n`);
}
