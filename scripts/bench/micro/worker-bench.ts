import { type Cancellation, systemClock } from '../../../src/base/clock.ts';
import { createLog } from '../../../src/base/log.ts';
import { openTokenizer } from '../../../src/tokenizer/open-tokenizer.ts';
import { createTokenizerPool } from '../../../src/tokenizer/pool/tokenizer-pool.ts';
import { benchTexts } from '../bench-texts.ts';
import type { MicroGroup } from './micro-task.ts';

const WORKER = new URL('../../../workers/tokenizer-worker.ts', import.meta.url);

/** Somebody who waits for ever. */
const PATIENT: Cancellation = {
  ended: undefined,
  whenEnded: () => undefined,
  release: () => undefined,
};

/**
 * From texts to token ids through the tokenizer pool and back, a real worker in between: one query
 * alone, many requests in one turn of the event loop, and one request of many texts.
 *
 * @throws Error when no worker starts.
 */
export async function workerTasks(modelsDir: string): Promise<MicroGroup> {
  const log = createLog({ level: 'error', write: (line) => process.stderr.write(line) });
  const { init } = await openTokenizer({ modelsDir, modelId: 'bge-m3', log });
  const pool = createTokenizerPool({
    workerCount: 1,
    workerUrl: WORKER,
    init,
    tokenCountMax: 8192,
    // Nothing is tokenized on this thread: the worker's round trip is what is measured.
    inlineUnitsMax: 0,
    startMsMax: 60_000,
    restartsMax: 0,
    clock: systemClock,
    log,
  });
  await pool.started;
  if (pool.reason !== '') throw new Error(pool.reason);
  const texts = benchTexts({ length: 'short', count: 256, seed: 1 });
  const [text] = texts;
  const tokenize = (some: readonly string[]) => pool.tokenize(some, PATIENT, 'right');
  const of = { group: 'tokenizer worker', per: 'text' };
  return {
    tasks: [
      { ...of, name: 'one query', operationCount: 1, run: () => tokenize([text]) },
      {
        ...of,
        name: '256 requests of one query',
        operationCount: texts.length,
        run: () => Promise.all(texts.map((one) => tokenize([one]))),
      },
      {
        ...of,
        name: 'one request of 256 queries',
        operationCount: texts.length,
        run: () => tokenize(texts),
      },
    ],
    close: () => pool.close(),
  };
}
