import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { startHeadsServer } from '../clients/heads-server.ts';
import type { RunningServer } from '../start-server.ts';

/** What bounds the tokenizer's own routes, and token ids in place of texts. */

setDefaultTimeout(60_000);

let server: RunningServer;

beforeAll(async () => {
  server = await startHeadsServer({ ALLOW_TOKEN_IDS: 'on' });
});

afterAll(() => server?.close());

const send = (path: string, body: object, headers: Record<string, string> = {}) =>
  fetch(server.url + path, { method: 'POST', body: JSON.stringify(body), headers });

const codeOf = (reply: Response) => reply.headers.get('x-error-code');

const UNITS_MAX = 262_144;
const IDS_MAX = 65_536;
/** One UTF-16 unit that stands for four words, and as many tokens. */
const LIGATURE = 'ﷺ';

describe('too much for one request is refused, with field, limit and value', () => {
  test.each([
    ['/tokenize', { inputs: 'a'.repeat(UNITS_MAX + 1) }, 'inputs', UNITS_MAX, UNITS_MAX + 1],
    [
      '/tokenize',
      { inputs: Array(2).fill('a'.repeat(UNITS_MAX / 2 + 1)) },
      ...(['inputs', UNITS_MAX, UNITS_MAX + 2] as const),
    ],
    ['/decode', { ids: Array(IDS_MAX + 1).fill(5) }, 'ids', IDS_MAX, IDS_MAX + 1],
    ['/decode', { ids: Array(2).fill(Array(40_000).fill(5)) }, 'ids', IDS_MAX, 80_000],
  ] as const)('%s, case %#', async (path, body, field, limit, value) => {
    const reply = await send(path, body);
    expect([reply.status, codeOf(reply)]).toEqual([422, 'EMB_REPLY_TOO_LARGE']);
    const told = await reply.json();
    expect(told).toMatchObject({ field, limit, value });
    expect(told.error).toContain(`${value}`);
  });

  test('tokens too, where few characters give many', async () => {
    const reply = await send('/tokenize', { inputs: LIGATURE.repeat(100_000) });
    expect(codeOf(reply)).toBe('EMB_REPLY_TOO_LARGE');
    expect((await reply.json()).value).toBeGreaterThan(UNITS_MAX);
  });

  test('lists of ids are counted like texts', async () => {
    const reply = await send('/decode', { ids: Array(2049).fill([]) });
    expect(codeOf(reply)).toBe('EMB_TEXTS_TOO_MANY');
  });

  test('ids in place of texts', async () => {
    for (const input of [Array(IDS_MAX + 1).fill(5), Array(2).fill(Array(40_000).fill(5))]) {
      const reply = await send('/v1/embeddings', { input, model: 'small' });
      expect([reply.status, codeOf(reply)]).toEqual([400, 'EMB_TOKEN_IDS_REFUSED']);
      expect((await reply.json()).error.message).toContain(`${IDS_MAX}`);
    }
  });

  test('what just fits is answered', async () => {
    const inputs = ' a'.repeat(UNITS_MAX / 2);
    const [tokens] = await (await send('/tokenize', { inputs })).json();
    expect(tokens.length).toBe(UNITS_MAX / 2 + 2);
    const last = { text: ' a', special: false, start: UNITS_MAX - 2, stop: UNITS_MAX };
    expect(tokens.at(-2)).toMatchObject(last);
    const decoded = await (await send('/decode', { ids: Array(IDS_MAX).fill(10) })).json();
    expect(decoded).toHaveLength(1);
  });
});

describe('they take their place in the queue', () => {
  const CALLS = [
    ['/tokenize', { inputs: 'тест' }],
    ['/decode', { ids: [5] }],
  ] as const;

  test.each(CALLS)(
    '%s is refused when it is full, and leaves nothing behind',
    async (path, body) => {
      const { admission } = server.parts;
      const permit = admission.admit({ textCount: 2 * server.config.queueTextsMax, tokenCount: 1 });
      try {
        const refused = await send(path, body);
        expect([refused.status, codeOf(refused)]).toEqual([429, 'EMB_QUEUE_FULL']);
        expect(refused.headers.get('retry-after')).not.toBeNull();
      } finally {
        permit.release();
      }
      expect((await send(path, body)).status).toBe(200);
      expect([admission.admittedTextCount, admission.callerCount]).toEqual([0, 0]);
    },
  );

  test.each(CALLS)('%s heeds x-timeout-ms', async (path, body) => {
    expect((await send(path, body, { 'x-timeout-ms': '60000' })).status).toBe(200);
    const reply = await send(path, body, { 'x-timeout-ms': 'soon' });
    expect([reply.status, codeOf(reply)]).toEqual([422, 'EMB_FIELD_INVALID']);
  });
});
