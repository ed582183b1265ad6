import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import { scriptedRow } from '../scripted-encode-server.ts';
import { type CorpusStand, refusal, startCorpusStand } from './corpus-stand.ts';
import { readersPython } from './readers-venv.ts';

/**
 * What the examples for Spark and Ray call in each of their tasks. The engines themselves are no
 * part of the set-up: they weigh a gigabyte.
 */

setDefaultTimeout(60_000);

let stand: CorpusStand;

beforeAll(() => {
  stand = startCorpusStand();
});

afterAll(() => stand.close());

test('texts of a task become rows, in requests of 64, as background, after a refusal too', async () => {
  let count = 0;
  stand.answer = () =>
    ++count === 1 ? refusal(429, 'EMB_QUEUE_FULL', { 'retry-after-ms': '10' }) : undefined;
  const script = `
import json, sys
from embed_texts import embed_texts
print(json.dumps(embed_texts([f"статья {i}" for i in range(100)], sys.argv[1]).tolist()))`;
  const child = Bun.spawn([readersPython(), '-c', script, stand.server.url], {
    env: {
      PYTHONPATH: join(import.meta.dir, '../../../scripts/examples'),
      PYTHONDONTWRITEBYTECODE: '1',
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const rows = JSON.parse(await new Response(child.stdout).text());
  expect(rows).toEqual(
    Array.from({ length: 100 }, (_, index) => [...scriptedRow(`статья ${index}`)]),
  );
  expect(stand.server.requests.map(({ body }) => body.query?.length)).toEqual([64, 64, 36]);
  expect(stand.server.requests[0]?.headers.get('x-priority')).toBe('background');
});
