import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import type { Browser } from 'playwright-core';
import { type FakeTriton, startFakeTriton } from '../fake-triton.ts';
import { openBrowser, openPage } from '../programs/open-browser.ts';
import { type RunningServer, startServer } from '../start-server.ts';
import { until } from '../until.ts';

/** The playground in a real Chromium, on a server that is locked, busy, and at last gone. */

setDefaultTimeout(120_000);

let fake: FakeTriton;
let browser: Browser;
let server: RunningServer;

beforeAll(async () => {
  browser = await openBrowser();
  const shape = { datatype: 'INT64', dimension: 1024, batchTextsMax: 32 } as const;
  fake = await startFakeTriton({ model: 'bge_model', ...shape });
  const bounds = {
    QUEUE_TEXTS_MAX: '1',
    REQUEST_TEXTS_MAX: '1',
    QUEUE_HOLD_MS: '0',
    API_KEYS: 'secret',
  };
  const open = { KEYLESS_PATHS: '/,/playground/*,/info,/ready' };
  server = await startServer({
    TRITON_URL: fake.url,
    TOKENIZER_WORKERS: '1',
    ...bounds,
    ...open,
  });
  await until('it is ready', async () => (await fetch(`${server.url}/ready`)).ok);
});

afterAll(async () => {
  await browser?.close();
  await server?.close();
  await fake?.stop();
});

test('a key is asked for, the busy server is told from a broken one, and a gone one too', async () => {
  const { page, shoot } = await openPage(browser, {
    url: server.url,
    look: { locale: 'ru', scheme: 'light', width: 1200 },
  });
  await page.waitForSelector('.dot.is-up');
  await page.fill('#texts', 'исковая давность');
  await page.click('#run');
  await page.waitForSelector('#key-field:not([hidden])');
  await page.fill('#key', 'secret');

  fake.behave({ kind: 'stall' });
  const headers = { authorization: 'Bearer secret' };
  const body = '{"query": "a text that takes the only place"}';
  const ended = new AbortController();
  const { signal } = ended;
  const other = fetch(`${server.url}/encode`, { method: 'POST', body, headers, signal });
  const gone = other.catch(() => undefined);
  await until('the place is taken', () => server.parts.admission.admittedTextCount === 1);
  await page.click('#run');
  await page.waitForSelector('.notice.is-busy');
  expect(await page.textContent('#notice-detail')).toContain('EMB_QUEUE_FULL');
  await shoot('busy-desk');

  ended.abort();
  await gone;
  fake.behave({ kind: 'answer' });
  await until('the place is free', () => server.parts.admission.admittedTextCount === 0);
  await page.waitForSelector('#again:not([disabled])');
  await page.click('#again');
  await page.waitForSelector('.chips');
  expect(await page.isVisible('#notice')).toBe(false);

  await server.close();
  await page.click('#run');
  await page.waitForSelector('#notice:not([hidden])');
  expect(await page.textContent('#notice-text')).toBe('Сервер не отвечает');
  await shoot('gone-desk');
  await page.context().close();
});
