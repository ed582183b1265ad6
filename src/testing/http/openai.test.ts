import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import OpenAI from 'openai';
import { QUANTIZED, quantizeRow } from '../../vectors/quantize.ts';
import { startHeadsServer } from '../clients/heads-server.ts';
import type { RunningServer } from '../start-server.ts';

/**
 * OpenAI's API: shapes, formats, counts and errors. What clients see of it is tested with
 * the clients.
 */

setDefaultTimeout(60_000);

const DIMENSION = 32;
const TEXTS = ['исковая давность', 'тест', '30 % годовых'];

let server: RunningServer;
let strict: RunningServer;

beforeAll(async () => {
  [server, strict] = await Promise.all([
    startHeadsServer(),
    startHeadsServer({ STRICT_MODEL: 'on', ALLOW_TOKEN_IDS: 'on' }),
  ]);
});

afterAll(async () => {
  await server?.close();
  await strict?.close();
});

function post(body: unknown, headers: Record<string, string> = {}, to = server) {
  return fetch(`${to.url}/v1/embeddings`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
}

interface Embeddings {
  readonly object: string;
  readonly data: readonly { object: string; index: number; embedding: number[] | string }[];
  readonly model: string;
  readonly usage: { prompt_tokens: number; total_tokens: number };
}

interface OpenaiError {
  readonly error: { message: string; type: string; param: string | null; code: string };
}

/** `/encode` of the same texts, as bytes of float32. */
async function encoded(texts: readonly string[], to = server): Promise<Buffer[]> {
  const reply = await fetch(`${to.url}/encode`, {
    method: 'POST',
    headers: { accept: 'application/octet-stream' },
    body: JSON.stringify({ query: texts }),
  });
  const bytes = Buffer.from(await reply.arrayBuffer());
  const size = DIMENSION * 4;
  return texts.map((_, at) => bytes.subarray(at * size, (at + 1) * size));
}

async function errorOf(reply: Response): Promise<OpenaiError['error']> {
  const body = (await reply.json()) as OpenaiError;
  expect(Object.keys(body)).toEqual(['error']);
  return body.error;
}

describe('POST /v1/embeddings', () => {
  test('one string, several, and the alias', async () => {
    const one = (await (await post({ input: TEXTS[0] })).json()) as Embeddings;
    expect(one.data).toHaveLength(1);
    const several = (await (await post({ input: TEXTS, model: 'anything' })).json()) as Embeddings;
    expect(several.object).toBe('list');
    expect(several.model).toBe('small');
    expect(several.data.map(({ object, index }) => [object, index])).toEqual(
      TEXTS.map((_, index) => ['embedding', index]),
    );
    const alias = await fetch(`${server.url}/embeddings`, {
      method: 'POST',
      body: JSON.stringify({ input: TEXTS }),
    });
    expect(await alias.json()).toEqual(several);
    const rows = await encoded(TEXTS);
    several.data.forEach(({ embedding }, at) => {
      const row = Buffer.from(Float32Array.from(embedding as number[]).buffer);
      expect(row.equals(rows[at])).toBe(true);
    });
  });

  test('base64, asked for in the body or in Accept; the body decides', async () => {
    const rows = (await encoded(TEXTS)).map((row) => row.toString('base64'));
    const inBody = (await (
      await post({ input: TEXTS, encoding_format: 'base64' })
    ).json()) as Embeddings;
    expect(inBody.data.map(({ embedding }) => embedding)).toEqual(rows);
    const accept = { accept: 'application/json; encoding=base64' };
    const inHeader = (await (await post({ input: TEXTS }, accept)).json()) as Embeddings;
    expect(inHeader).toEqual(inBody);
    const float = { input: TEXTS, encoding_format: 'float' };
    const both = (await (await post(float, accept)).json()) as Embeddings;
    expect(both.data[0]?.embedding).toBeArray();
  });

  test('a binary Accept gets what /encode gives', async () => {
    const reply = await post({ input: TEXTS }, { accept: 'application/octet-stream' });
    expect(reply.headers.get('x-embedding-shape')).toBe(`${TEXTS.length},${DIMENSION}`);
    const rows = Buffer.from(await reply.arrayBuffer());
    expect(rows.equals(Buffer.concat(await encoded(TEXTS)))).toBe(true);
  });

  const rowsOf = async (fields: object): Promise<(number[] | string)[]> => {
    const { data } = (await (await post({ input: TEXTS, ...fields })).json()) as Embeddings;
    return data.map(({ embedding }) => embedding);
  };

  test.each(QUANTIZED)('%s rows, as numbers and as base64 of their bytes', async (form) => {
    const rows = (await encoded(TEXTS)).map((row) =>
      quantizeRow(new Float32Array(new Uint8Array(row).buffer), form),
    );
    const numbers = rows.map((row) => [...row]);
    expect(await rowsOf({ output_dtype: form })).toEqual(numbers);
    expect(await rowsOf({ embedding_type: form })).toEqual(numbers);
    expect(await rowsOf({ embedding_type: [form] })).toEqual(numbers);
    // OpenAI's clients ask for base64 by themselves, and would read the bytes as float32.
    expect(await rowsOf({ embedding_type: form, encoding_format: 'base64' })).toEqual(numbers);
    expect(await rowsOf({ output_dtype: form, encoding_format: 'base64' })).toEqual(
      rows.map((row) => Buffer.from(row.buffer).toString('base64')),
    );
  });

  test('floats in the words of Jina and Voyage', async () => {
    const base64 = (await encoded(TEXTS)).map((row) => row.toString('base64'));
    expect(await rowsOf({ embedding_type: 'base64' })).toEqual(base64);
    expect(await rowsOf({ output_dtype: 'float', encoding_format: 'base64' })).toEqual(base64);
    const unset = { output_dtype: null, output_dimension: null, embedding_type: null };
    expect(await rowsOf({ ...unset, output_dimension: DIMENSION })).toEqual(await rowsOf({}));
  });

  test.each([
    ['output_dtype', { output_dtype: 'int4' }],
    ['output_dimension', { output_dimension: 16 }],
    ['embedding_type', { embedding_type: ['float', 'binary'] }],
    ['embedding_type', { output_dtype: 'int8', embedding_type: 'binary' }],
  ])('%s that cannot be had is refused by name', async (param, fields) => {
    const reply = await post({ input: 'тест', ...fields });
    expect([reply.status, (await errorOf(reply)).param]).toEqual([400, param]);
  });

  test('integers in a binary format are its bytes, not floats', async () => {
    const accept = { accept: 'application/octet-stream' };
    const reply = await post({ input: 'тест', output_dtype: 'int8' }, accept);
    const { embedding } = (await (await post({ input: 'тест', output_dtype: 'int8' })).json())
      .data[0];
    expect([...new Int8Array(await reply.arrayBuffer())]).toEqual(embedding);
  });

  test('usage counts the tokens that the model saw', async () => {
    const counts = await Promise.all(
      TEXTS.map(async (text) => {
        const init = { method: 'POST', body: JSON.stringify({ inputs: text }) };
        const [tokens] = await (await fetch(`${server.url}/tokenize`, init)).json();
        return tokens.length as number;
      }),
    );
    const total = counts.reduce((sum, count) => sum + count, 0);
    const { usage } = (await (await post({ input: TEXTS })).json()) as Embeddings;
    expect(usage).toEqual({ prompt_tokens: total, total_tokens: total });
    const long = await post({ input: ['а '.repeat(2000), 'тест'] });
    expect(long.headers.get('x-truncated-count')).toBe('1');
    expect(((await long.json()) as Embeddings).usage.prompt_tokens).toBe(512 + 3);
  });

  test('fields that are not known are ignored', async () => {
    const extra = { user: 'a', truncate_prompt_tokens: -1, input_type: 'search_document', x: {} };
    expect((await post({ input: 'тест', model: 'm', ...extra })).status).toBe(200);
    expect((await post({ input: 'тест', dimensions: DIMENSION })).status).toBe(200);
    const nothing = { encoding_format: null, dimensions: null, model: null };
    expect((await post({ input: 'тест', ...nothing })).status).toBe(200);
  });

  const long = `договор ${'а '.repeat(2000)} аренды`;
  const rowOf = async (extra: object): Promise<unknown> =>
    ((await (await post({ input: long, ...extra })).json()) as { data: unknown }).data;

  test.each([
    { truncate: true },
    { truncate: 'END' },
    { truncation_side: 'right' },
    { truncate_prompt_tokens: -1 },
    { truncate_prompt_tokens: 8192, normalize: true, add_special_tokens: true, prompt: '' },
  ])('what says that a text is cut at its end changes nothing: %j', async (extra) => {
    expect(await rowOf(extra)).toEqual(await rowOf({}));
  });

  test.each([{ truncate: 'START' }, { truncate: 'left' }, { truncation_side: 'left' }])(
    'what says that it is cut at its start is obeyed: %j',
    async (extra) => {
      const [left, right] = await Promise.all([rowOf(extra), rowOf({})]);
      expect(left).toBeArray();
      expect(left).not.toEqual(right);
      expect(left).toEqual(await rowOf({ truncate: 'Start' }));
    },
  );

  test.each([{ truncate: false }, { truncate: 'NONE' }, { truncate: 'none' }])(
    'a text is not cut although told not to: %j',
    async (extra) => {
      const reply = await post({ input: long, ...extra });
      expect([reply.status, reply.headers.get('x-error-code')]).toEqual([400, 'EMB_TEXT_TOO_LONG']);
    },
  );

  test.each([
    { truncate: 'MIDDLE' },
    { truncate: 1 },
    { truncate_prompt_tokens: 2 },
    { truncate_prompt_tokens: 0 },
    { truncation_side: 'middle' },
    { truncation_direction: 'Left' },
    { input_type: 'pasage' },
    { task: 'nonsense' },
    { task_type: 5 },
    { normalize: false },
    { add_special_tokens: false },
    { prompt: 'query: ' },
    { instruction: 'Find laws.' },
    { late_chunking: true },
  ])('what would change a vector and is not offered is refused by name: %j', async (extra) => {
    const reply = await post({ input: 'тест', ...extra });
    expect(reply.status).toBe(400);
    expect(await errorOf(reply)).toMatchObject({
      code: 'EMB_FIELD_INVALID',
      param: Object.keys(extra)[0],
    });
  });

  test.each([
    ['input_type', 'search_document'],
    ['task', 'retrieval.passage'],
    ['task_type', 'RETRIEVAL_DOCUMENT'],
    ['input_type', 'search_query'],
    ['task', 'text-matching'],
    ['task_type', 'RETRIEVAL_QUERY'],
  ])('%s takes %s', async (field, word) => {
    expect((await post({ input: 'тест', [field]: word })).status).toBe(200);
  });

  test.each([
    ['no input', {}, 'EMB_FIELD_MISSING', 'input'],
    ['an empty array', { input: [] }, 'EMB_TEXT_EMPTY', 'input'],
    ['a number', { input: 5 }, 'EMB_FIELD_INVALID', 'input'],
    ['another dimension', { input: 'a', dimensions: 16 }, 'EMB_FIELD_INVALID', 'dimensions'],
    ['an encoding', { input: 'a', encoding_format: 'x' }, 'EMB_FIELD_INVALID', 'encoding_format'],
    ['a model that is no name', { input: 'a', model: 5 }, 'EMB_FIELD_INVALID', 'model'],
    ['token ids', { input: [5, 6] }, 'EMB_TOKEN_IDS_REFUSED', 'input'],
    ['lists of ids', { input: [[5], [6]] }, 'EMB_TOKEN_IDS_REFUSED', 'input[0]'],
    ['foreign ids', { input: [[5, 250_002]] }, 'EMB_TOKEN_IDS_REFUSED', 'input[0][1]'],
  ] as const)('%s is a 400 in the shape of OpenAI', async (_what, body, code, param) => {
    const reply = await post(body);
    expect(reply.status).toBe(400);
    expect(reply.headers.get('x-should-retry')).toBe('false');
    const error = await errorOf(reply);
    expect(error).toMatchObject({ code, param, type: 'invalid_request_error' });
    expect(error.message).toBeString();
  });

  test('what comes before the route has that shape too', async () => {
    const unknown = await fetch(`${server.url}/v1/nowhere`);
    expect([unknown.status, (await errorOf(unknown)).code]).toEqual([404, 'EMB_ROUTE_UNKNOWN']);
    const wrong = await fetch(`${server.url}/v1/embeddings`);
    expect(wrong.headers.get('allow')).toBe('POST');
    expect((await errorOf(wrong)).code).toBe('EMB_METHOD_NOT_ALLOWED');
    const broken = await fetch(`${server.url}/v1/embeddings`, { method: 'POST', body: '{' });
    expect([broken.status, (await errorOf(broken)).code]).toEqual([400, 'EMB_BODY_MALFORMED']);
  });
});

describe('with STRICT_MODEL and ALLOW_TOKEN_IDS', () => {
  test('the model goes by its id, by its name on the hub, or unnamed', async () => {
    for (const model of ['small', 'BAAI/bge-m3', null, undefined]) {
      expect((await post({ input: 'тест', model }, {}, strict)).status).toBe(200);
    }
    const reply = await post({ input: 'тест', model: 'text-embedding-3-small' }, {}, strict);
    expect(reply.status).toBe(404);
    expect(await errorOf(reply)).toMatchObject({ code: 'EMB_MODEL_UNKNOWN', param: 'model' });
  });

  test('ids of this model are the text that they stand for', async () => {
    const ids = await Promise.all(
      TEXTS.map(async (text) => {
        const init = { method: 'POST', body: JSON.stringify({ inputs: text }) };
        const [tokens] = await (await fetch(`${server.url}/tokenize`, init)).json();
        return tokens.map(({ id }: { id: number }) => id) as number[];
      }),
    );
    const texts = await (await post({ input: TEXTS }, {}, strict)).json();
    expect(await (await post({ input: ids }, {}, strict)).json()).toEqual(texts);
    const one = (await (await post({ input: ids[0] }, {}, strict)).json()) as Embeddings;
    expect(one.data.map(({ embedding }) => embedding)).toEqual([texts.data[0].embedding]);
    const foreign = await errorOf(await post({ input: [[250_002]] }, {}, strict));
    expect(foreign.message).toContain('check_embedding_ctx_length=False');
  });

  test('OpenAI lists and finds the one model', async () => {
    const client = new OpenAI({ baseURL: `${strict.url}/v1`, apiKey: 'unused' });
    const listed: string[] = [];
    for await (const { id, object } of client.models.list()) listed.push(`${object} ${id}`);
    expect(listed).toEqual(['model small']);
    expect((await client.models.retrieve('BAAI/bge-m3')).id).toBe('small');
    const refused = await client.models.retrieve('gpt-4').catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(OpenAI.NotFoundError);
  });
});
