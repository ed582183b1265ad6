import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { CHANGING_NAMES } from '../../http/vector-fields.ts';
import { startHeadsServer } from '../clients/heads-server.ts';
import type { RunningServer } from '../start-server.ts';

/**
 * Every field that changes vectors on some server, sent to every route that takes texts. None may
 * be ignored in silence: a route obeys it, and then the reply is another, or refuses it by name.
 */

setDefaultTimeout(120_000);

/** Longer than the model's 512 tokens, and another at its end than at its start. */
const LONG = `${'аренда '.repeat(400)}${'борщ '.repeat(400)}`;

/** A value that asks for other vectors than there are without the field. */
const CHANGES: Readonly<Record<string, unknown>> = {
  truncate: false,
  truncation: false,
  truncate_prompt_tokens: 8,
  max_tokens: 8,
  max_length: 8,
  max_tokens_per_doc: 8,
  max_seq_length: 8,
  max_query_length: 8,
  max_passage_length: 8,
  max_query_tokens: 8,
  max_text_tokens: 8,
  num_ctx: 8,
  max_chunks_per_doc: 5,
  truncation_side: 'left',
  truncation_direction: 'Left',
  add_special_tokens: false,
  normalize: false,
  normalized: false,
  normalize_embeddings: false,
  embd_normalize: 0,
  use_activation: false,
  activation: false,
  input_type: 'passage',
  task: 'retrieval.passage',
  task_type: 'RETRIEVAL_DOCUMENT',
  prompt_name: 'passage',
  prompt_type: 'passage',
  prompt: 'Find: ',
  instruction: 'Find.',
  late_chunking: true,
  output_dtype: 'int8',
  embedding_type: 'int8',
  embedding_types: ['int8'],
  encoding_type: 'int8',
  embed_dtype: 'float16',
  endianness: 'big',
  output_dimension: 16,
  dimensions: 16,
  truncate_dim: 16,
  pooling: 'max',
  pooling_strategy: 'masked_mean',
  rank_fields: ['title'],
};

/** The words of one API for the same. */
const SPELLED: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  cohere: { truncate: 'START', input_type: 'search_document' },
  weaviate: { task_type: 'passage' },
};

/** Each route, and what of the fields it obeys; all others it refuses. */
const ROUTES: readonly {
  readonly path: string;
  readonly body: object;
  readonly obeyed: readonly string[];
  readonly ignored?: readonly string[];
  /** The object in the body that holds the fields. */
  readonly within?: string;
  readonly spelled?: Readonly<Record<string, unknown>> | undefined;
}[] = [
  // By name, whatever it is: a route of ours refuses all that it does not know.
  { path: '/encode', body: { query: LONG }, obeyed: ['truncate', 'input_type'] },
  {
    path: '/score',
    body: { query: LONG, texts: [LONG, 'суп'] },
    obeyed: ['truncate', 'max_query_tokens', 'max_text_tokens'],
  },
  {
    path: '/v1/embeddings',
    body: { input: LONG },
    obeyed: [
      ...['truncate', 'truncation', 'truncate_prompt_tokens', 'truncation_side'],
      ...['input_type', 'task', 'task_type'],
      ...['output_dtype', 'embedding_type', 'encoding_type', 'output_dimension', 'dimensions'],
    ],
  },
  ...['/embed', '/', '/embed_all'].map((path) => ({
    path,
    body: { inputs: LONG },
    obeyed: ['truncate', 'truncation_direction', 'prompt_name'].concat(
      path === '/embed_all' ? [] : ['dimensions'],
    ),
  })),
  {
    path: '/similarity',
    body: { inputs: { source_sentence: LONG, sentences: ['суп'] } },
    within: 'parameters',
    obeyed: ['truncate', 'truncation_direction', 'prompt_name'],
  },
  {
    path: '/rerank',
    body: { query: LONG, texts: [LONG, 'суп'] },
    obeyed: ['truncate', 'truncation_direction', 'max_query_tokens', 'max_text_tokens'],
  },
  ...['/rerank', '/v1/rerank', '/v2/rerank'].map((path) => ({
    path,
    body: { query: LONG, documents: [LONG, 'суп'], raw_scores: true },
    obeyed: ['truncation', 'max_query_tokens', 'max_text_tokens', 'max_tokens_per_doc'],
  })),
  {
    path: '/api/embed',
    body: { model: 'm', input: LONG },
    obeyed: ['truncate', 'dimensions', 'input_type', 'task', 'task_type'],
  },
  { path: '/api/embed', body: { model: 'm', input: LONG }, within: 'options', obeyed: ['num_ctx'] },
  {
    path: '/api/embeddings',
    body: { model: 'm', prompt: LONG },
    obeyed: ['input_type', 'task', 'task_type'],
  },
  ...['/v1/embed', '/v2/embed'].map((path) => ({
    path,
    body: { texts: [LONG] },
    obeyed: ['truncate', 'input_type', 'max_tokens', 'output_dimension', 'embedding_types'],
    spelled: SPELLED.cohere,
  })),
  { path: '/vectors', body: { text: LONG }, obeyed: [] },
  // Objects that the routes do not have.
  { path: '/', body: { inputs: LONG }, within: 'parameters', obeyed: [] },
  { path: '/v1/embeddings', body: { input: LONG }, within: 'extra_body', obeyed: [] },
  { path: '/v1/rerank', body: { query: 'a', documents: ['b'] }, within: 'options', obeyed: [] },
  {
    path: '/vectors',
    body: { text: LONG },
    within: 'config',
    obeyed: ['task_type', 'dimensions'],
    // Weaviate sends it always, whatever the model.
    ignored: ['pooling_strategy'],
    spelled: SPELLED.weaviate,
  },
  { path: '/v1/encode/small', body: { items: [{ text: LONG }] }, obeyed: [] },
  {
    path: '/v1/encode/small',
    body: { items: [{ text: LONG }] },
    within: 'params',
    obeyed: ['output_dtype'],
  },
];

let server: RunningServer;

beforeAll(async () => {
  // With prefixes, so that it matters which is asked for, and a dimension to be cut to.
  const manifest = { prefixes: { query: 'вопрос: ', passage: 'статья: ' }, shortDimensions: [16] };
  server = await startHeadsServer({}, { manifest });
});

afterAll(() => server?.close());

async function answerOf(path: string, body: object) {
  const reply = await fetch(server.url + path, { method: 'POST', body: JSON.stringify(body) });
  const text = await reply.text();
  const beside =
    /"(id|total_duration|prompt_eval_count|prompt_tokens|total_tokens|input_tokens)":[^,}]*/g;
  return { status: reply.status, text, vectors: text.replace(beside, '') };
}

test('a value is at hand for each field of the table', () => {
  expect(Object.keys(CHANGES).sort()).toEqual([...CHANGING_NAMES].sort());
});

describe.each(
  ROUTES.map(
    (route) => [`${route.path} ${Object.keys(route.body)} ${route.within ?? ''}`, route] as const,
  ),
)('%s', (_name, { path, body, obeyed, ignored = [], within, spelled = {} }) => {
  test('obeys a field or refuses it by name', async () => {
    const without = await answerOf(path, body);
    expect(without.status).toBe(200);
    // Ollama's older call has its text in one of these names.
    const sent = CHANGING_NAMES.filter((each) => !Object.hasOwn(body, each));
    for (const name of sent.filter((each) => !ignored.includes(each))) {
      const field = { [name]: spelled[name] ?? CHANGES[name] };
      const asked = { ...body, ...(within === undefined ? field : { [within]: field }) };
      const reply = await answerOf(path, asked);
      if (obeyed.includes(name)) {
        // Not to cut is to refuse so long a text.
        const isObeyed = reply.status === 200 || reply.text.includes('the limit of');
        expect([name, isObeyed, reply.vectors === without.vectors]).toEqual([name, true, false]);
      } else {
        const isNamed = reply.text.includes(within === undefined ? name : `${within}.${name}`);
        expect([name, reply.status >= 400 && reply.status < 500, isNamed]).toEqual([
          name,
          true,
          true,
        ]);
      }
    }
  });

  test('null is as if it were left out', async () => {
    const without = await answerOf(path, body);
    const isStrict = path === '/encode';
    const isTaken = (name: string): boolean =>
      Object.hasOwn(body, name) || (isStrict && !obeyed.includes(name));
    const names = CHANGING_NAMES.filter((name) => !isTaken(name));
    const nulls = Object.fromEntries(names.map((name) => [name, null]));
    const asked = { ...body, ...(within === undefined ? nulls : { [within]: nulls }) };
    expect((await answerOf(path, asked)).vectors).toBe(without.vectors);
  });
});
