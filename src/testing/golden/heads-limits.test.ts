/**
 * What bounds the heads: what the model has, the size of a reply, the memory of a batch.
 *
 * A fault that was planted in the code by hand, and that this suite caught: batches with
 * multi-vectors as large as others.
 */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { DENSE_ONLY_MODEL, SMALL_MODEL, smallHeadsHarness } from './small-heads-harness.ts';

setDefaultTimeout(60_000);

/** Two pieces and the two special tokens: padded to eight tokens. */
const SHORT_TEXTS = Array.from({ length: 64 }, (_, at) => `договор ${at % 10}`);

interface ErrorReply {
  readonly error: Readonly<Record<string, unknown>> & { readonly message: string };
}

async function errorOf(reply: Response): Promise<ErrorReply['error'] & { status: number }> {
  return { ...((await reply.json()) as ErrorReply).error, status: reply.status };
}

describe('a Triton whose engine has the dense head alone', () => {
  const environment = { TRITON_MODEL: DENSE_ONLY_MODEL };
  const harness = smallHeadsHarness({ backend: 'triton', environment });

  test.each(['sparse', 'multi_vector'])('%s is refused by name', async (head) => {
    const body = { query: ['a'], outputs: ['dense', head] };
    const error = await errorOf(await harness.post('/encode', body));
    expect(error).toMatchObject({ status: 422, code: 'EMB_HEAD_UNAVAILABLE', field: 'outputs' });
    expect(error).toMatchObject({ limit: 'dense', value: head, retryable: false });
    expect(error.message).toBe(`small on triton has no output "${head}"; it has dense.`);
  });

  test('scores by the heads that there are', async () => {
    const body = { query: 'a', texts: ['a', 'b'] };
    const { scores, weights } = await (await harness.post('/score', body)).json();
    expect(Object.keys(scores)).toEqual(['weighted', 'dense']);
    expect(weights).toEqual({ dense: 1 });
    expect(scores.dense[0]).toBeCloseTo(1, 5);
    const error = await errorOf(await harness.post('/score', { ...body, outputs: ['sparse'] }));
    expect(error).toMatchObject({ status: 422, code: 'EMB_HEAD_UNAVAILABLE', value: 'sparse' });
  });
});

describe('an embedded model whose manifest has two heads', () => {
  const harness = smallHeadsHarness({ backend: 'embedded', heads: ['dense', 'sparse'] });

  test('the third is refused, though the graph has it', async () => {
    const body = { query: ['a'], outputs: ['multi_vector'] };
    const error = await errorOf(await harness.post('/encode', body));
    expect(error).toMatchObject({ status: 422, code: 'EMB_HEAD_UNAVAILABLE' });
    expect(error.message).toBe(
      'small on embedded has no output "multi_vector"; it has dense, sparse.',
    );
  });
});

describe('a small reply and small batches', () => {
  // 4096 bytes: 32 tokens' vectors of 32 float32 each, so eight texts of four padded tokens.
  const environment = {
    MULTI_VECTOR_BYTES_MAX: '4096',
    REPLY_BYTES_MAX: '100000',
    TRITON_BATCHES_IN_FLIGHT: '1',
  };
  const harness = smallHeadsHarness({ backend: 'triton', environment });

  /** The largest batch since the start, once so many requests were counted. */
  async function largestBatch(
    outputs: readonly string[],
    counted: { requestCountMin: number },
  ): Promise<number> {
    // Equal texts would go along with one another, and no batch would be full.
    const headers = { 'x-cache': 'bypass' };
    const ask = () =>
      harness.post('/encode', { query: SHORT_TEXTS, outputs }, 'application/msgpack', headers);
    const replies = await Promise.all(Array.from({ length: 4 }, ask));
    expect(replies.map((reply) => reply.status)).toEqual([200, 200, 200, 200]);
    const statistics = await harness.triton?.statistics(SMALL_MODEL, counted);
    return Math.max(...(statistics?.batches.keys() ?? []));
  }

  test('batches with multi-vectors are cut by their bytes, others are not', async () => {
    // 256 texts in batches of eight, each time; then in batches of sixteen.
    expect(await largestBatch(['multi_vector'], { requestCountMin: 32 })).toBe(8);
    const all = ['dense', 'sparse', 'multi_vector'];
    expect(await largestBatch(all, { requestCountMin: 64 })).toBe(8);
    expect(await largestBatch(['dense', 'sparse'], { requestCountMin: 80 })).toBe(16);
  });

  test('one text that is over the limit of a batch is encoded alone', async () => {
    const body = { query: 'договор '.repeat(200), outputs: ['multi_vector'] };
    const reply = await (await harness.post('/encode', body)).json();
    expect(reply.multi_vector.length).toBe(reply.tokens - 1);
    expect(reply.tokens).toBeGreaterThan(32);
  });

  test.each([
    ['application/json', 8333],
    ['application/json; encoding=base64', 16_666],
    ['application/msgpack', 25_000],
    ['application/msgpack; dtype=float16', 50_000],
  ])('a reply over the limit is refused before the work, %s', async (accept, limit) => {
    const query = Array.from({ length: 60 }, () => `${'договор '.repeat(59)}договор`);
    const error = await errorOf(
      await harness.post('/encode', { query, outputs: ['multi_vector'] }, accept),
    );
    expect(error).toMatchObject({ status: 422, code: 'EMB_REPLY_TOO_LARGE', field: 'outputs' });
    expect(error).toMatchObject({ limit, value: 60 * 61 * 32, retryable: false });
    expect(error.message).toContain('Send fewer texts at a time, or ask for fewer outputs.');
    const dense = await harness.post('/encode', { query, outputs: ['dense'] }, accept);
    expect(dense.status).toBe(200);
  });

  test.each([
    ['/rerank', { query: 'договор' }, 'texts'],
    ['/score', { query: 'договор' }, 'texts'],
  ])(
    '%s is held to the memory of its vectors, not to the size of a list of them',
    async (path, body, field) => {
      const texts = (count: number) =>
        Array.from({ length: count }, () => `${'договор '.repeat(59)}договор`);
      // 12 texts of 61 tokens are 23,424 numbers and more: 93,696 bytes, and in JSON three times that.
      const asked = { ...body, outputs: ['multi_vector'] };
      expect((await harness.post(path, { ...asked, [field]: texts(12) })).status).toBe(200);
      const reply = await harness.post(path, { ...asked, [field]: texts(13) });
      expect(reply.status).toBe(422);
      expect(await reply.text()).toContain('25000');
    },
  );
});
