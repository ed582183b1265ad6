/** `score` and `tokenize` against a server whose every answer is written here. */
import { describe, expect, test } from 'bun:test';
import { type Answer, startScriptedClient } from '../testing/scripted-client.ts';
import { APIEncoderError } from './api-encoder-error.ts';

/** Scores each text by its length. */
const answerScores: Answer = ({ body }) => {
  const texts = body.texts as readonly string[];
  const dense = texts.map((text) => text.length);
  return Response.json({ model: 'scripted', scores: { weighted: dense, dense }, weights: {} });
};

const token = (text: string) => ({ id: 7, text, special: false, start: 0, stop: text.length });
const SPECIAL = { id: 0, text: '<s>', special: true, start: null, stop: null };

const answerTokens: Answer = ({ body }) =>
  Response.json((body.inputs as readonly string[]).map((text) => [SPECIAL, token(text)]));

async function errorOf(work: Promise<unknown>): Promise<APIEncoderError> {
  const error = await work.then(
    () => undefined,
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(APIEncoderError);
  return error;
}

describe('score', () => {
  test('takes as many requests as it needs, and joins them in order', async () => {
    await using scripted = startScriptedClient([answerScores], { requestTextsMax: 2 });
    const { encoder, server } = scripted;
    const options = { outputs: ['dense'], weights: { dense: 2 }, truncate: false } as const;
    const scores = await encoder.score('query', ['a', 'bb', 'ccc', 'dddd', 'eeeee'], options);
    const dense = [1, 2, 3, 4, 5];
    expect(scores).toEqual({ model: 'scripted', weighted: dense, dense });
    expect(server.requests.map(({ path }) => path)).toEqual(['/score', '/score', '/score']);
    const bodies = server.requests.map(({ body }) => body as object);
    expect(bodies).toContainEqual({ query: 'query', ...options, texts: ['ccc', 'dddd'] });
  });

  test('what is no text is refused before anything is sent', async () => {
    await using scripted = startScriptedClient([answerScores]);
    const { encoder, server } = scripted;
    expect(await errorOf(encoder.score('\ud800', ['a']))).toMatchObject({ field: 'query' });
    expect(await errorOf(encoder.score('a', ['a', '\ud800']))).toMatchObject({ field: 'texts[1]' });
    expect(await errorOf(encoder.score('a', []))).toMatchObject({ field: 'texts' });
    const outputs = ['colbert'] as unknown as ['dense'];
    expect(await errorOf(encoder.score('a', ['a'], { outputs }))).toMatchObject({
      field: 'outputs',
    });
    expect(server.requests).toEqual([]);
  });

  test('an error names the text as the caller counts it', async () => {
    const answer: Answer = (request) => {
      if (!(request.body.texts as string[]).includes('dd')) return answerScores(request);
      const error = { code: 'EMB_TEXT_TOO_LONG', retryable: false, field: 'texts[1]' };
      return Response.json(
        { error: { ...error, message: 'texts[1] has 9 tokens.' } },
        { status: 422 },
      );
    };
    await using scripted = startScriptedClient([answer], { requestTextsMax: 2 });
    const error = await errorOf(scripted.encoder.score('q', ['a', 'b', 'c', 'dd']));
    expect(error).toMatchObject({ code: 'EMB_TEXT_TOO_LONG', status: 422, field: 'texts[3]' });
    expect(error.message).toBe('texts[3] has 9 tokens.');
  });

  test.each([
    ['a score too few', { model: 'm', scores: { weighted: [1], dense: [1, 2] } }],
    ['a score that is none', { model: 'm', scores: { weighted: [1, null] } }],
    ['no scores', { model: 'm' }],
    ['no model', { scores: { weighted: [1, 2] } }],
    ['nothing', null],
  ])('%s is no reply', async (_what, body) => {
    await using scripted = startScriptedClient([() => Response.json(body)]);
    const error = await errorOf(scripted.encoder.score('q', ['a', 'b']));
    expect(error.code).toBe('CLIENT_REPLY_INVALID');
  });

  test('scores of two models are never joined', async () => {
    const answer: Answer = ({ index }) =>
      Response.json({ model: `model-${index}`, scores: { weighted: [1] } });
    await using scripted = startScriptedClient([answer], { requestTextsMax: 1 });
    const error = await errorOf(scripted.encoder.score('q', ['a', 'b']));
    expect(error.message).toContain('model-0 and model-1');
  });
});

describe('tokenize', () => {
  test('a text has its tokens, several have theirs each, in order', async () => {
    await using scripted = startScriptedClient([answerTokens], { requestTextsMax: 2 });
    const { encoder, server } = scripted;
    expect(await encoder.tokenize('abc')).toEqual([SPECIAL, token('abc')]);
    const options = { addSpecialTokens: false };
    const rows = await encoder.tokenize(['a', 'bb', 'ccc'], options);
    expect(rows).toEqual(['a', 'bb', 'ccc'].map((text) => [SPECIAL, token(text)]));
    expect(await encoder.tokenize([])).toEqual([]);
    const bodies = server.requests.map(({ body }) => body as object);
    expect(bodies[0]).toEqual({ inputs: ['abc'] });
    expect(bodies).toContainEqual({ add_special_tokens: false, inputs: ['ccc'] });
  });

  test("an error in text-embeddings-inference's shape is read like our own", async () => {
    const body = {
      error: 'inputs[0] must be a string.',
      error_type: 'Validation',
      ...{ code: 'EMB_FIELD_INVALID', retryable: false, request_id: 'r-1', field: 'inputs[0]' },
    };
    await using scripted = startScriptedClient([() => Response.json(body, { status: 422 })]);
    const { encoder } = scripted;
    const known = { code: 'EMB_FIELD_INVALID', status: 422, requestId: 'r-1', retryable: false };
    expect(await errorOf(encoder.tokenize(['a']))).toMatchObject({ ...known, field: 'texts[0]' });
    const error = await errorOf(encoder.tokenize('a'));
    expect(error).toMatchObject({ ...known, field: 'text', message: 'text must be a string.' });
  });

  test.each([
    ['tokens of one text too few', [[SPECIAL]]],
    ['a token without an id', [[SPECIAL], [{ ...SPECIAL, id: '0' }]]],
    ['a map', {}],
  ])('%s is no reply', async (_what, body) => {
    await using scripted = startScriptedClient([() => Response.json(body)]);
    const error = await errorOf(scripted.encoder.tokenize(['a', 'b']));
    expect(error.code).toBe('CLIENT_REPLY_INVALID');
  });
});
