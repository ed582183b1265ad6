import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type FakeTriton, startFakeTriton } from '../fake-triton.ts';
import { type RunningServer, startServer } from '../start-server.ts';
import { until } from '../until.ts';
import { type CompiledClients, startCompiledClients } from './compiled-clients.ts';
import { startHeadsServer } from './heads-server.ts';
import { NODE_CLIENTS } from './node-clients.ts';
import { type PythonClients, startPythonClients } from './python-clients.ts';

/**
 * The clients that people already have, each by its usual call: the same rows as `/encode`, to the
 * last bit; words to read when a call is wrong; another try when the server is busy.
 */

// The Python clients take seconds to import on a machine that does ten things at once.
setDefaultTimeout(120_000);

const TEXTS = [
  'Арендодатель вправе расторгнуть договор аренды.',
  'The lessee shall pay rent on the first day of each month.',
];

/** LlamaIndex's class for TEI takes the refusal for the rows. */
const BUSY_WORDS = /queue is full|429|validation error|string indices/i;

/** Texts that the small queue of the busy server holds. */
const QUEUE_TEXTS = 8;

let fake: FakeTriton;
let server: RunningServer;
let busy: RunningServer;
const python: PythonClients = startPythonClients();
const compiled: CompiledClients = startCompiledClients();
const cases = [...NODE_CLIENTS, ...python.cases, ...compiled.cases];

beforeAll(async () => {
  const shape = { datatype: 'INT64', dimension: 1024, batchTextsMax: 32 } as const;
  fake = await startFakeTriton({ model: 'bge_model', ...shape });
  const environment = { BACKEND: 'triton', TRITON_URL: fake.url, TOKENIZER_WORKERS: '1' };
  const texts = String(QUEUE_TEXTS);
  [server, busy] = await Promise.all([
    startServer({ ...environment, EMPTY_TEXTS: 'refuse' }),
    startServer({
      ...environment,
      QUEUE_TEXTS_MAX: texts,
      REQUEST_TEXTS_MAX: texts,
      QUEUE_HOLD_MS: '0',
    }),
  ]);
  for (const { url } of [server, busy]) {
    await until('the server is ready', async () => (await fetch(`${url}/ready`)).ok);
  }
});

afterAll(async () => {
  await python.close();
  await compiled.close();
  await server?.close();
  await busy?.close();
  await fake?.stop();
});

/** The rows of `/encode` as little-endian float32, in hexadecimal digits. */
async function rightRows(): Promise<string[]> {
  const reply = await fetch(`${server.url}/encode`, {
    method: 'POST',
    headers: { accept: 'application/octet-stream' },
    body: JSON.stringify({ query: TEXTS }),
  });
  const bytes = Buffer.from(await reply.arrayBuffer());
  const rowBytes = bytes.length / TEXTS.length;
  return TEXTS.map((_, at) => bytes.toString('hex', at * rowBytes, (at + 1) * rowBytes));
}

const hexOf = (row: readonly number[]): string =>
  Buffer.from(Float32Array.from(row).buffer).toString('hex');

describe.each(cases.map((one) => [one.name, one] as const))('%s', (_name, client) => {
  test('gets the rows of /encode to the last bit', async () => {
    const rows = await client.vectors(server.url, TEXTS);
    expect(rows.map(hexOf)).toEqual(await rightRows());
  });

  test('shows words to read when a call is wrong', async () => {
    // LlamaIndex looks at no status, and cuts the words short. LangChain4j itself refuses ''.
    expect(await client.complaint(server.url, ['тест', '\ufeff'])).toMatch(
      /(input|inputs|query|texts|documents|items)(\[\d\])? is e/,
    );
  });
});

describe.each(cases.filter((one) => one.isRetrying).map((one) => [one.name, one] as const))(
  '%s, when the server is busy',
  (_name, client) => {
    test('tries again and is answered', async () => {
      const { admission } = busy.parts;
      const refusals = (): number =>
        busy.logLines.filter((line) => line.includes('EMB_QUEUE_FULL')).length;
      const before = refusals();
      const permit = admission.admit({ textCount: 2 * QUEUE_TEXTS, tokenCount: QUEUE_TEXTS });
      const answered = client.vectors(busy.url, TEXTS);
      await until('it was refused', () => refusals() > before);
      permit.release();
      expect((await answered).map(hexOf)).toEqual(await rightRows());
    });
  },
);

describe.each(cases.filter((one) => !one.isRetrying).map((one) => [one.name, one] as const))(
  '%s, when the server is busy',
  (_name, client) => {
    test('fails at once, and says so', async () => {
      const { admission } = busy.parts;
      const permit = admission.admit({ textCount: 2 * QUEUE_TEXTS, tokenCount: QUEUE_TEXTS });
      try {
        expect(await client.complaint(busy.url, TEXTS)).toMatch(BUSY_WORDS);
      } finally {
        permit.release();
      }
    });
  },
);

describe('SIE', () => {
  test('its SDK gets the three heads of a model that has them', async () => {
    const heads = await startHeadsServer();
    const sie = python.cases.find(({ name }) => name === 'sie-sdk (Python)');
    expect(await sie?.vectors(heads.url, TEXTS).finally(heads.close)).toHaveLength(TEXTS.length);
  });
});

describe('token ids of another vocabulary', () => {
  test('LangChain without the setting is told of it by name', async () => {
    const told = await python.foreignIds(server.url, TEXTS);
    expect(told).toContain('holds token ids');
    expect(told).toContain('check_embedding_ctx_length=False');
  });
});

describe("the README's table of clients", () => {
  const readme = readFileSync(join(import.meta.dir, '../../../README.md'), 'utf8');
  const section = readme.split('\n## Clients\n')[1]?.split('\n## ')[0] ?? '';
  const table = section.split('\n\n').find((part) => part.startsWith('| client | address |')) ?? '';
  const rows = table.split('\n').filter((line) => !line.startsWith('| -'));

  test('has the clients that are tested here, and no others', () => {
    const names = rows.slice(1).map((row) => row.split('|')[1]?.trim().replaceAll('`', ''));
    expect(names.toSorted()).toEqual([...cases.map(({ name }) => name)].toSorted());
  });

  test('says which of them try again', () => {
    for (const { name, isRetrying } of cases) {
      const row = rows.find((line) => line.replaceAll('`', '').startsWith(`| ${name} |`)) ?? '';
      expect([name, row.split('|').at(-2)?.trim()]).toEqual([name, isRetrying ? 'yes' : 'no']);
    }
  });
});
