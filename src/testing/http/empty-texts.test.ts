import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { unpack } from 'msgpackr';
import { APIEncoder } from '../../client/api-encoder.ts';
import { startHeadsServer } from '../clients/heads-server.ts';
import type { RunningServer } from '../start-server.ts';

/**
 * Texts of which the model sees nothing: one rule for every API, decided by the journey, and told
 * for each text or in a count.
 */

setDefaultTimeout(60_000);

/** By the reference these have the ids of the empty string or of a space. */
const BLANK = [
  '',
  ' ',
  '   ',
  '\n',
  '\u00a0',
  '\u200b',
  '\ufeff',
  '\ufffd',
  '\u3000\t\u2028',
  '\u0001',
];

/** Something is left of these: a text may be one unknown character. */
const LEFT = ['.', 'я', '\u00ad', '𓀀', '\n.'];

const MIXED = ['иск', '\n', 'борщ', ''];

const servers: Record<string, RunningServer> = {};

beforeAll(async () => {
  for (const policy of ['encode', 'refuse', 'null']) {
    servers[policy] = await startHeadsServer({ EMPTY_TEXTS: policy });
  }
});

afterAll(async () => {
  for (const server of Object.values(servers)) await server.close();
});

type Reply = Record<string, never> & { [index: number]: never };

/** One call of each API with several texts, and where its reply has their rows. */
const APIS: readonly {
  readonly path: string;
  readonly body: (texts: readonly string[]) => object;
  readonly field: string;
  readonly rows: (reply: Reply) => readonly Row[];
  readonly status: number;
}[] = [
  {
    path: '/encode',
    body: (query) => ({ query }),
    field: 'query[1]',
    rows: ({ embeddings }) => embeddings,
    status: 422,
  },
  {
    path: '/v1/embeddings',
    body: (input) => ({ input }),
    field: 'input[1]',
    rows: ({ data }) => (data as { embedding: number[] }[]).map(({ embedding }) => embedding),
    status: 400,
  },
  {
    path: '/v1/embeddings',
    body: (input) => ({ input, encoding_format: 'base64' }),
    field: 'input[1]',
    rows: ({ data }) => (data as { embedding: string }[]).map(({ embedding }) => embedding),
    status: 400,
  },
  {
    path: '/embed',
    body: (inputs) => ({ inputs }),
    field: 'inputs[1]',
    rows: (reply) => reply as never,
    status: 400,
  },
  {
    path: '/api/embed',
    body: (input) => ({ model: 'm', input }),
    field: 'input[1]',
    rows: ({ embeddings }) => embeddings,
    status: 400,
  },
  {
    path: '/v1/embed',
    body: (texts) => ({ texts }),
    field: 'texts[1]',
    rows: ({ embeddings }) => embeddings,
    status: 400,
  },
  ...(['float', 'base64', 'int8', 'ubinary'] as const).map((type) => ({
    path: '/v2/embed',
    body: (texts: readonly string[]) => ({ texts, embedding_types: [type] }),
    field: 'texts[1]',
    rows: ({ embeddings }: Reply) => (embeddings as Record<string, never>)[type],
    status: 400,
  })),
  {
    path: '/v1/encode/small',
    body: (texts) => ({ items: texts.map((text) => ({ text })) }),
    field: 'items[1]',
    rows: ({ items }) =>
      (items as { dense: { values: number[] } | null }[]).map(({ dense }) => dense?.values ?? null),
    status: 400,
  },
  {
    path: '/vectors',
    body: (texts) => ({ texts }),
    field: 'texts[1]',
    rows: ({ vectors }) => vectors,
    status: 422,
  },
];

/** Calls that score; they need a row of every text. */
const SCORING: readonly [path: string, body: object][] = [
  ['/score', { query: 'иск', texts: ['\n', 'борщ'] }],
  ['/rerank', { query: 'иск', texts: ['\n', 'борщ'] }],
  ['/rerank', { query: 'иск', documents: ['\n', 'борщ'] }],
  ['/v2/rerank', { query: 'иск', documents: ['\n', 'борщ'] }],
  ['/similarity', { inputs: { source_sentence: 'иск', sentences: ['\n', 'борщ'] } }],
];

function send(policy: string, path: string, body: object, accept = 'application/json') {
  return fetch(servers[policy].url + path, {
    method: 'POST',
    headers: { accept },
    body: JSON.stringify(body),
  });
}

type Row = readonly number[] | string | null;

/** Of rows of other batches, which differ in their last bits. */
function cosine(left: Row, right: Row): number {
  const [a, b] = [left, right].map((row) =>
    typeof row === 'string'
      ? [...new Float32Array(Uint8Array.from(Buffer.from(row, 'base64')).buffer)]
      : (row ?? []),
  );
  const dot = (one: readonly number[], two: readonly number[]): number =>
    one.reduce((sum, value, index) => sum + value * two[index], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

describe('what is empty', () => {
  test('is what the tokenizer leaves nothing of', async () => {
    const { empty, embeddings } = await (await send('encode', '/encode', { query: BLANK })).json();
    expect(empty).toEqual(BLANK.map(() => true));
    expect(new Set(embeddings.map(String)).size).toBe(2);
    const left = await (await send('encode', '/encode', { query: LEFT })).json();
    expect(Object.keys(left)).not.toContain('empty');
  });
});

describe.each(APIS.map((api) => [`${api.path} ${JSON.stringify(api.body(['…']))}`, api] as const))(
  '%s',
  (_name, { path, body, field, rows, status }) => {
    test('encodes them unless told, and says how many', async () => {
      const reply = await send('encode', path, body(MIXED));
      expect(reply.status).toBe(200);
      if (path !== '/encode') expect(reply.headers.get('x-empty-count')).toBe('2');
      const all = rows(await reply.json());
      expect(all.map((row) => row === null)).toEqual(MIXED.map(() => false));
      const alone = rows(await (await send('encode', path, body(['\n']))).json());
      expect(all[1]).toEqual(alone[0] as never);
      const none = await send('encode', path, body(['иск', 'борщ']));
      if (path !== '/encode') expect(none.headers.get('x-empty-count')).toBe('0');
    });

    test('null answers null for them, and the same rows for the others', async () => {
      const reply = await send('null', path, body(MIXED));
      expect(reply.status).toBe(200);
      if (path !== '/encode') expect(reply.headers.get('x-empty-count')).toBe('2');
      const all = rows(await reply.json());
      const [first, second] = rows(await (await send('null', path, body(['иск', 'борщ']))).json());
      expect(all.map((row) => row === null)).toEqual([false, true, false, true]);
      expect(cosine(all[0], first)).toBeGreaterThan(0.99);
      expect(cosine(all[2], second)).toBeGreaterThan(0.99);
      expect(rows(await (await send('null', path, body(['\n']))).json())).toEqual([null]);
    });

    test('refuse names the first', async () => {
      const reply = await send('refuse', path, body(MIXED));
      expect([reply.status, reply.headers.get('x-error-code')]).toEqual([status, 'EMB_TEXT_EMPTY']);
      expect(await reply.text()).toContain(`${field} is empty`);
      expect((await send('refuse', path, body(LEFT))).status).toBe(200);
    });
  },
);

describe('in other forms of a reply', () => {
  test('a block has zeros for null, and msgpack tells which', async () => {
    const reply = await send('null', '/encode', { query: MIXED }, 'application/msgpack');
    const { embeddings, empty } = unpack(await reply.bytes());
    const [textCount, dimension] = embeddings.shape;
    const values = new Float32Array(Uint8Array.from(embeddings.data).buffer);
    const isZero = (index: number): boolean =>
      values.subarray(index * dimension, (index + 1) * dimension).every((value) => value === 0);
    expect(textCount).toBe(4);
    expect(empty).toEqual([false, true, false, true]);
    expect([0, 1, 2, 3].map(isZero)).toEqual(empty);
  });

  test('raw rows tell it in a header', async () => {
    const reply = await send('null', '/encode', { query: MIXED }, 'application/octet-stream');
    expect(reply.headers.get('x-embedding-shape')).toStartWith('4,');
    expect(reply.headers.get('x-empty')).toBe('0,1,0,1');
  });

  test('one text alone, and the other heads', async () => {
    const query = { query: '\u200b', outputs: ['dense', 'sparse', 'multi_vector'] };
    expect(await (await send('null', '/encode', query)).json()).toMatchObject({
      embedding: null,
      empty: true,
      sparse: { indices: [], values: [] },
      multi_vector: [],
    });
    const { embedding, empty } = await (await send('encode', '/encode', query)).json();
    expect([embedding.length > 0, empty]).toEqual([true, true]);
    expect(await (await send('null', '/embed_sparse', { inputs: ['\n', 'я'] })).json()).toEqual([
      [],
      expect.anything(),
    ]);
  });
});

describe('scores', () => {
  test.each(SCORING)(
    '%s %j has one for every text, unless they are refused',
    async (path, body) => {
      const encoded = await send('encode', path, body);
      expect([encoded.status, encoded.headers.get('x-empty-count')]).toEqual([200, '1']);
      const scores = JSON.stringify(await encoded.json()).replace(/"id":"[^"]*"/, '');
      const nulled = JSON.stringify(await (await send('null', path, body)).json());
      expect(nulled.replace(/"id":"[^"]*"/, '')).toBe(scores);
      expect((await send('refuse', path, body)).headers.get('x-error-code')).toBe('EMB_TEXT_EMPTY');
    },
  );
});

test('the client tells them, and leaves the decision to the server', async () => {
  const rows = async (policy: string) => {
    const encoder = new APIEncoder(servers[policy].url);
    const encoded = await encoder.encodeHeads(MIXED, { outputs: ['dense'] });
    await encoder.close();
    return encoded.map(({ dense, empty }) => [dense?.some((value) => value !== 0), empty]);
  };
  const good = [true, false];
  expect(await rows('encode')).toEqual([good, [true, true], good, [true, true]]);
  expect(await rows('null')).toEqual([good, [false, true], good, [false, true]]);
  const refused = { code: 'EMB_TEXT_EMPTY', field: 'texts[1]' };
  await expect(rows('refuse')).rejects.toMatchObject(refused);
});
