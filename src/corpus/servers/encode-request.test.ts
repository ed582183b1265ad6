import { describe, expect, test } from 'bun:test';
import { Packr } from 'msgpackr';
import { portableClock } from '../../client/cancellation.ts';
import type { Head } from '../../client/read-encode-reply.ts';
import { decodeMsgpackBody } from '../../reply/decode-msgpack.ts';
import { EncodeRequests } from './encode-request.ts';

const TEXTS = ['Статья 1', '', 'a'.repeat(70_000), '😀 \u0000"\\'];
const { signal } = new AbortController();

describe('EncodeRequests', () => {
  test('a server reads what was sent, also from a block that was used before', async () => {
    const bodies: unknown[] = [];
    const requests = new EncodeRequests({
      ...{ heads: ['dense'], inputType: 'query', truncate: false, apiKey: 'key' },
      clock: portableClock,
    });
    const fetch = async (_: string, init: RequestInit): Promise<Response> => {
      bodies.push(decodeMsgpackBody(new Uint8Array(init.body as Uint8Array)));
      expect(init.headers).toMatchObject({
        authorization: 'Bearer key',
        'x-priority': 'background',
      });
      return reply((bodies.at(-1) as { query: string[] }).query.length, 0);
    };
    const to = { url: 'http://server', fetch, signal };
    for (const query of [TEXTS, TEXTS.slice(0, 2), TEXTS]) {
      await requests.send(to, query);
      const rest = { truncate: false, input_type: 'query', outputs: ['dense'] };
      expect(bodies.at(-1)).toEqual({ ...rest, query });
    }
  });

  test('rows are right wherever in the reply they begin', async () => {
    for (let padding = 0; padding < 8; padding++) {
      const requests = new EncodeRequests({
        ...{ heads: ['dense'], inputType: 'passage', truncate: true, apiKey: undefined },
        clock: portableClock,
      });
      const fetch = async (): Promise<Response> => reply(3, padding);
      const { rows, model } = await requests.send({ url: '', fetch, signal }, ['a', 'b', 'c']);
      expect(model).toBe('m'.repeat(padding + 1));
      expect(rows).toEqual([
        { tokenCount: 1, truncated: true, dense: Float32Array.of(0.5, -0, 3e-45) },
        { tokenCount: 1, truncated: true, dense: Float32Array.of(1.5, -0, 3e-45) },
        { tokenCount: 1, truncated: true, dense: Float32Array.of(2.5, -0, 3e-45) },
      ]);
    }
  });

  test('a reply is given back at once where its rows are copies, and stays where they are it', async () => {
    const sent: ArrayBuffer[] = [];
    const fetch = async (): Promise<Response> => {
      const body = await reply(2, 0, 40).arrayBuffer();
      sent.push(body);
      const response = new Response();
      response.arrayBuffer = () => Promise.resolve(body);
      return response;
    };
    const common = { inputType: 'passage', truncate: true, apiKey: undefined } as const;
    const send = (heads: Head[]) =>
      new EncodeRequests({ ...common, heads, clock: portableClock }).send(
        { url: '', fetch, signal },
        ['a', 'b'],
      );
    const both = await send(['dense', 'multi_vector']);
    expect(both.rows[1]?.multiVector?.data).toEqual(new Float32Array(40 * 3).fill(0.25));
    expect(both.rows[1]?.dense).toEqual(Float32Array.of(1.5, -0, 3e-45));
    expect(sent[0]?.byteLength).toBe(0);
    const alone = await send(['dense']);
    expect(alone.rows[1]?.dense).toEqual(Float32Array.of(1.5, -0, 3e-45));
  });
});

function reply(count: number, padding: number, tokenCount = 0): Response {
  const rows = Array.from({ length: count }, (_, row) => [row + 0.5, -0, 3e-45]).flat();
  const fields = {
    model: 'm'.repeat(padding + 1),
    dim: 3,
    tokens: new Array(count).fill(1),
    truncated: new Array(count).fill(true),
    embeddings: {
      dtype: '<f4',
      shape: [count, 3],
      data: new Uint8Array(Float32Array.from(rows).buffer),
    },
    multi_vector: Array.from({ length: count }, () => ({
      dtype: '<f4',
      shape: [tokenCount, 3],
      data: new Uint8Array(new Float32Array(tokenCount * 3).fill(0.25).buffer),
    })),
  };
  return new Response(new Uint8Array(new Packr({ useRecords: false }).pack(fields)));
}
