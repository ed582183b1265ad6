import { describe, expect, test } from 'bun:test';
import { type Answer, answerRows, startScriptedClient } from '../testing/scripted-client.ts';
import {
  type ScriptedRequest,
  scriptedReply,
  scriptedRow,
} from '../testing/scripted-encode-server.ts';
import type { APIEncoderOptions, Head } from './api-encoder.ts';

function textsOf(request: ScriptedRequest): readonly string[] {
  return request.body.query ?? [];
}

describe('encodeHeads', () => {
  const heads = (texts: readonly string[]) => ({
    sparse: texts.map((text) => ({
      indices: Int32Array.of(5, 6 + text.length),
      values: Float32Array.of(0.5, 0.25),
    })),
    multiVectors: texts.map((text) => ({
      tokenCount: text.length,
      data: new Float32Array(text.length * 3).fill(text.length),
    })),
  });

  const answerInfo: Answer = () =>
    Response.json({ model: { heads: ['multi_vector', 'dense', 'another', 'sparse'] } });

  // Planted and caught: all three asked of every model, /info asked before each call.
  test('asks for what the model has, and gives each text its own', async () => {
    await using scripted = startScriptedClient(
      [
        answerInfo,
        (request) => {
          const texts = textsOf(request);
          return scriptedReply(texts, {
            ...heads(texts),
            truncated: texts.map((text) => text === 'ccc'),
          });
        },
      ],
      { requestTextsMax: 2 },
    );
    const { server, encoder } = scripted;
    const texts = ['a', 'bb', 'ccc'];
    const encoded = await encoder.encodeHeads(texts);
    const [info, first] = server.requests;
    expect(info.path).toBe('/info');
    expect(first.body.outputs).toEqual(['dense', 'sparse', 'multi_vector']);
    const { sparse, multiVectors } = heads(texts);
    expect(encoded).toEqual(
      texts.map((text, index) => ({
        model: 'scripted',
        tokenCount: text.length,
        truncated: text === 'ccc',
        empty: false,
        dense: scriptedRow(text),
        sparse: sparse[index],
        multiVector: multiVectors[index],
      })),
    );
    expect((await encoder.encodeHeads('bb')).multiVector?.tokenCount).toBe(2);
    expect(server.requests.filter(({ path }) => path === '/info').length).toBe(1);
  });

  test('a server that names no heads is asked for nothing', async () => {
    await using scripted = startScriptedClient([() => Response.json({ model: {} })]);
    const call = scripted.encoder.encodeHeads('a');
    await expect(call).rejects.toMatchObject({ code: 'CLIENT_REPLY_INVALID' });
    expect(scripted.server.requests.length).toBe(1);
  });

  test('multi-vectors come in small requests, unless the caller says otherwise', async () => {
    const texts = ['x'.repeat(8000), 'y'.repeat(8000)];
    const countFor = async (options: APIEncoderOptions, outputs: readonly Head[]) => {
      await using scripted = startScriptedClient(
        [({ body }) => scriptedReply(body.query ?? [], heads(body.query ?? []))],
        options,
      );
      await scripted.encoder.encodeHeads(texts, { outputs });
      return scripted.server.requests.length;
    };
    expect(await countFor({}, ['dense', 'sparse'])).toBe(1);
    expect(await countFor({}, ['dense', 'multi_vector'])).toBe(2);
    expect(await countFor({ requestCharactersMax: 16_000 }, ['multi_vector'])).toBe(1);
  });

  test('a head that was asked for and did not come is an error', async () => {
    await using scripted = startScriptedClient([answerRows]);
    const { encoder } = scripted;
    const call = encoder.encodeHeads('a', { outputs: ['sparse'] });
    await expect(call).rejects.toMatchObject({ code: 'CLIENT_REPLY_INVALID' });
  });

  test('an unknown head is refused here', async () => {
    await using scripted = startScriptedClient([answerRows]);
    const { encoder } = scripted;
    for (const outputs of [[], ['colbert'], 'dense', null]) {
      const call = encoder.encodeHeads('a', { outputs: outputs as never });
      await expect(call).rejects.toMatchObject({
        code: 'CLIENT_ARGUMENT_INVALID',
        field: 'outputs',
      });
    }
  });
});
