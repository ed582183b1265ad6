import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import type { Schema } from '../../http/document.ts';
import { startHeadsServer } from '../clients/heads-server.ts';
import type { RunningServer } from '../start-server.ts';

/**
 * A short wrong value in a field is shown in the message, whatever the field and the API: who wrote
 * "FLOAT" must see it. The fields are those of the OpenAPI document. A text is never shown.
 */

setDefaultTimeout(120_000);

let server: RunningServer;
let document: {
  readonly paths: Readonly<Record<string, { readonly post?: Operation }>>;
};

interface Operation {
  readonly requestBody: {
    readonly content: {
      readonly 'application/json': {
        readonly schema: Schema;
        readonly examples: Readonly<Record<string, { readonly value: Body }>>;
      };
    };
  };
}

type Body = Readonly<Record<string, unknown>>;

beforeAll(async () => {
  server = await startHeadsServer();
  document = await (await fetch(`${server.url}/swagger/json`)).json();
});

afterAll(() => server?.close());

interface Loose {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly oneOf?: readonly Loose[];
  readonly items?: Loose;
  readonly properties?: Readonly<Record<string, Loose>>;
  readonly additionalProperties?: boolean;
  readonly maxItems?: number;
  readonly maxLength?: number;
}

/** Fields of a schema that hold words, numbers and flags, as paths into a body. */
function fieldsOf(
  { properties = {}, oneOf = [] }: Loose,
  within: readonly string[] = [],
): string[][] {
  const own = Object.entries(properties).flatMap(([name, schema]) => {
    const at = [...within, name];
    if (schema.properties !== undefined) return fieldsOf(schema, at);
    return isWord(schema) ? [at] : [];
  });
  return [...own, ...oneOf.flatMap((one) => fieldsOf(one, within))];
}

/** Free strings and texts are none of them. */
function isWord({ type, enum: words, oneOf, items }: Loose): boolean {
  if (oneOf !== undefined) return oneOf.every(isWord);
  if (type === 'array') return items?.enum !== undefined;
  if (words?.every((word) => word === null)) return false;
  return words !== undefined || type === 'integer' || type === 'boolean' || type === 'number';
}

/** The body with another value at a path. */
function withValue(body: Body, [name, ...rest]: readonly string[], value: unknown): Body {
  const inner = body[name] as Body | undefined;
  return { ...body, [name]: rest.length === 0 ? value : withValue(inner ?? {}, rest, value) };
}

async function send(path: string, body: unknown) {
  const address = server.url + path.replaceAll(/\{\w+\}/g, 'small');
  const reply = await fetch(address, { method: 'POST', body: JSON.stringify(body) });
  return { status: reply.status, text: await reply.text() };
}

const operations = () =>
  Object.entries(document.paths).flatMap(([path, { post }]) => {
    if (post === undefined) return [];
    const { schema, examples } = post.requestBody.content['application/json'];
    return [
      { path, schema: schema as Loose, bodies: Object.values(examples).map(({ value }) => value) },
    ];
  });

test('every word, number and flag of every route shows what came, up to a bound', async () => {
  const hidden: string[] = [];
  let count = 0;
  for (const { path, schema, bodies } of operations()) {
    for (const at of fieldsOf(schema)) {
      const replies = await Promise.all(
        bodies.map((body) => send(path, withValue(body, at, 'FLOAT_1'))),
      );
      // Of two calls at one path one has the field; the other may ignore it.
      const shown = replies.some(({ status, text }) => status >= 400 && text.includes('FLOAT_1'));
      const isRefused = replies.some(({ status }) => status >= 400);
      if (isRefused && !shown) hidden.push(`${path} ${at.join('.')}: ${replies[0].text}`);
      const [long] = await Promise.all([send(path, withValue(bodies[0], at, 'y'.repeat(5000)))]);
      if (long.text.includes('y'.repeat(100)) && long.status >= 400) hidden.push(`${path}: long`);
      if (isRefused) count++;
    }
  }
  expect(hidden).toEqual([]);
  expect(count).toBeGreaterThan(90);
});

test('numbers and flags are shown too', async () => {
  const wrong = async (path: string, body: object) => (await send(path, body)).text;
  expect(await wrong('/encode', { query: 'a', batch_size: true })).toContain('not true');
  expect(await wrong('/encode', { query: 'a', truncate: 7 })).toContain('not 7');
  expect(await wrong('/encode', { query: 'a', outputs: 'dense' })).toContain('not \\"dense\\"');
  expect(await wrong('/embed', { inputs: 'a', prompt_name: 'qery' })).toContain('not \\"qery\\"');
  expect(await wrong('/score', { query: 'a', texts: ['b'], weights: { dense: 'x1' } })).toContain(
    'x1',
  );
  expect(await wrong('/score', { query: 'a', texts: ['b'], truncation_side: 'left' })).toContain(
    'left',
  );
});

describe('a text in the wrong place is not shown', () => {
  const SECRET = 'тайна';
  test.each<[string, object]>([
    ['/encode', { query: { text: SECRET } }],
    ['/encode', { query: [[SECRET]] }],
    ['/score', { query: 'a', texts: SECRET }],
    ['/rerank', { query: 'a', documents: SECRET }],
    ['/similarity', { inputs: SECRET }],
    ['/vectors', { texts: SECRET }],
    ['/vectors', { texts: ['a'], text: SECRET }],
    ['/v1/embeddings', { input: 'a', prompt: SECRET }],
    ['/v1/embeddings', { input: 'a', instruction: SECRET }],
    ['/v2/embed', { texts: ['a'], images: [SECRET] }],
    ['/v1/encode/small', { items: SECRET }],
    ['/v1/encode/small', { items: [{ text: 'a', images: SECRET }] }],
    ['/v1/encode/small', { items: [{ text: 'a' }], params: { instruction: SECRET } }],
  ])('%s %j', async (path, body) => {
    const { status, text } = await send(path, body);
    expect(status).toBeGreaterThanOrEqual(400);
    expect(text).not.toContain(SECRET);
  });
});

test('an empty list is told as one', async () => {
  const body = { texts: ['a'], embedding_types: [] };
  expect((await send('/v2/embed', body)).text).toContain('not an empty array');
});

test.each(['x-timeout-ms', 'request-timeout-ms'])('the header %s as well', async (name) => {
  const body = JSON.stringify({ query: 'a' });
  for (const value of ['5s', '0x5000', '5e3', '+5000', '5000.0']) {
    const headers = { [name]: value };
    const reply = await fetch(`${server.url}/encode`, { method: 'POST', headers, body });
    expect(await reply.text()).toContain(`not \\"${value}\\"`);
  }
});
