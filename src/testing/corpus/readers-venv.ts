import { join } from 'node:path';

/**
 * Where the Python readers of the corpus' output stand, and the S3 server of its tests.
 * Git-ignored; `scripts/ci/readers-setup.ts` fills it.
 */
export const READERS_VENV_DIRECTORY = join(import.meta.dir, '../../../.tools/readers-venv');

/** Its Python, whether it is there or not. */
export function readersPython(): string {
  return join(READERS_VENV_DIRECTORY, 'bin/python');
}

/** Where the vector stores that run inside Python stand; likewise. */
export const STORES_VENV_DIRECTORY = join(import.meta.dir, '../../../.tools/stores-venv');

/** Its Python, whether it is there or not. */
export function storesPython(): string {
  return join(STORES_VENV_DIRECTORY, 'bin/python');
}

/**
 * Where Spark, with its Java, and Ray stand. Git-ignored; `scripts/ci/engines-setup.ts` fills it.
 */
export const ENGINES_VENV_DIRECTORY = join(import.meta.dir, '../../../.tools/engines-venv');

/** Its Python, whether it is there or not. */
export function enginesPython(): string {
  return join(ENGINES_VENV_DIRECTORY, 'bin/python');
}

/** Where PostgreSQL with pgvector stands. */
export const POSTGRES_DIRECTORY = join(import.meta.dir, '../../../.tools/postgres');

/** Where the NATS server stands. */
export const NATS_DIRECTORY = join(import.meta.dir, '../../../.tools/nats');
