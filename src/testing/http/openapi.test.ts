import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { Validator } from '@seriousme/openapi-schema-validator';
import { startHeadsServer } from '../clients/heads-server.ts';
import { runSchemathesis } from '../clients/run-schemathesis.ts';
import type { RunningServer } from '../start-server.ts';

/**
 * The OpenAPI document: valid by the specification's own schema, and true of the live server as far
 * as a sample of schemathesis goes. `bun scripts/sim/schemathesis-sim.ts` runs thousands.
 */

setDefaultTimeout(240_000);

interface DocumentedReply {
  readonly content?: Readonly<Record<string, { readonly schema: { required: string[] } }>>;
}

interface Operation {
  readonly requestBody?: {
    readonly content: Readonly<
      Record<string, { readonly examples?: Readonly<Record<string, { value: unknown }>> }>
    >;
  };
  readonly responses: Readonly<Record<string, DocumentedReply>>;
  readonly security?: readonly unknown[];
}

interface OpenApiDocument {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly security?: readonly unknown[];
}

let server: RunningServer;
let strict: RunningServer;

beforeAll(async () => {
  [server, strict] = await Promise.all([
    startHeadsServer(),
    startHeadsServer({ API_KEYS: 'a-key', ALLOW_TOKEN_IDS: 'on', STRICT_MODEL: 'on' }),
  ]);
});

afterAll(async () => {
  await server?.close();
  await strict?.close();
});

async function documentOf({ url }: RunningServer): Promise<OpenApiDocument> {
  return (await fetch(`${url}/swagger/json`)).json() as Promise<OpenApiDocument>;
}

async function faultsOf(document: object): Promise<unknown> {
  const { valid, errors } = await new Validator().validate({ ...document });
  return valid ? [] : errors;
}

describe('the document', () => {
  test('is valid OpenAPI, whatever is allowed', async () => {
    for (const running of [server, strict]) {
      const document = await documentOf(running);
      expect(document.openapi).toBe('3.0.3');
      expect(await faultsOf(document)).toEqual([]);
    }
  });

  test('faults planted in it are found', async () => {
    const { paths, ...rest } = await documentOf(server);
    const withoutReplies = { ...rest, paths: { ...paths, '/encode': { post: { tags: [] } } } };
    expect(await faultsOf(withoutReplies)).not.toEqual([]);
    expect(await faultsOf({ ...rest, paths: { encode: {} } })).not.toEqual([]);
  });

  test('says where a key is needed, and only there', async () => {
    const open = await documentOf(server);
    expect(open.security).toBeUndefined();
    const { paths, security } = await documentOf(strict);
    expect(security).toHaveLength(2);
    const keyless: string[] = [];
    for (const [path, methods] of Object.entries(paths)) {
      for (const [method, { responses, security: own }] of Object.entries(methods)) {
        const name = `${method} ${path}`;
        if (own?.length === 0) keyless.push(name);
        expect([name, '401' in responses]).toEqual([name, own === undefined]);
      }
    }
    expect(keyless.toSorted()).toEqual(['get /', 'get /health', 'get /ready']);
  });

  // Planted by hand: the first API that has a root above the path tells the refusal.
  test('what a call without a key is told has the shape that its document says', async () => {
    for (const [path, methods] of Object.entries((await documentOf(strict)).paths)) {
      for (const [method, { responses }] of Object.entries(methods)) {
        const schema = responses['401']?.content?.['application/json']?.schema;
        if (schema === undefined) continue;
        const url = strict.url + path.replaceAll(/\{\w+\}/g, 'small');
        const body = await (await fetch(url, { method: method.toUpperCase() })).json();
        expect([path, Object.keys(body)]).toEqual([path, expect.arrayContaining(schema.required)]);
      }
    }
  });
});

// Caught: TEI's routes answered a deadline with 429 and no more.
test('a call whose deadline is over is told when to come back where it gets 429 or 503', async () => {
  const statuses: number[] = [];
  for (const [path, { post }] of Object.entries((await documentOf(server)).paths)) {
    const examples = post?.requestBody?.content['application/json']?.examples ?? {};
    for (const { value } of Object.values(examples)) {
      const headers = { 'request-deadline-ms': '1', 'content-type': 'application/json' };
      const url = server.url + path.replaceAll(/\{\w+\}/g, 'small');
      const reply = await fetch(url, { method: 'POST', headers, body: JSON.stringify(value) });
      const isTold = Number(reply.headers.get('retry-after-ms')) > 0;
      const { status } = reply;
      statuses.push(status);
      expect([path, status, isTold]).toEqual([path, status, status === 429 || status === 503]);
    }
  }
  expect(statuses).toContain(429);
});

test('a sample of schemathesis finds every reply as documented', async () => {
  const { output, isClean, caseCount } = await runSchemathesis({
    url: server.url,
    seed: 1,
    examplesMax: 3,
    phases: ['examples', 'fuzzing'],
    msMax: 200_000,
  });
  expect(isClean ? '' : output).toBe('');
  expect(caseCount).toBeGreaterThan(40);
  expect(server.logLines.filter((line) => line.includes('EMB_INTERNAL'))).toEqual([]);
});

test('schemathesis sees a reply that is not documented', async () => {
  const document = await documentOf(server);
  const lying = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    fetch: ({ url }) =>
      url.endsWith('/swagger/json')
        ? Response.json({ ...document, paths: { '/health': document.paths['/health'] } })
        : Response.json({ status: 'ok' }, { status: 418 }),
  });
  try {
    const url = `http://127.0.0.1:${lying.port}`;
    const run = await runSchemathesis({ url, seed: 1, examplesMax: 3, msMax: 200_000 });
    expect(run.isClean).toBe(false);
    expect(run.output).toContain('Undocumented HTTP status code');
  } finally {
    await lying.stop(true);
  }
});
