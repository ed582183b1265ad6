import { describe, expect, test } from 'bun:test';
import { answerRows, startScriptedClient } from '../testing/scripted-client.ts';
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

  test('asks for all three and gives each text its own', async () => {
    await using scripted = startScriptedClient(
      [
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
    expect(server.requests[0].body.outputs).toEqual(['dense', 'sparse', 'multi_vector']);
    const { sparse, multiVectors } = heads(texts);
    expect(encoded).toEqual(
      texts.map((text, index) => ({
        model: 'scripted',
        tokenCount: text.length,
        truncated: text === 'ccc',
        dense: scriptedRow(text),
        sparse: sparse[index],
        multiVector: multiVectors[index],
      })),
    );
    expect((await encoder.encodeHeads('bb')).multiVector?.tokenCount).toBe(2);
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
    for (const outputs of [[], ['colbert']]) {
      const call = encoder.encodeHeads('a', { outputs: outputs as never });
      await expect(call).rejects.toMatchObject({
        code: 'CLIENT_ARGUMENT_INVALID',
        field: 'outputs',
      });
    }
  });
});
