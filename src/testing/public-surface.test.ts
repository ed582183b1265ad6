import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ERRORS } from '../base/errors.ts';
import * as client from '../client/api-encoder.ts';
import type { Setting } from '../config/setting-kinds.ts';
import { SETTINGS } from '../config/settings.ts';
import { type FakeTriton, startFakeTriton } from './fake-triton.ts';
import { type RunningServer, startServer } from './start-server.ts';

/**
 * What others build on: routes, settings, error codes, the client. It changes only on purpose, that
 * is with `bun test --update-snapshots src/testing/public-surface.test.ts`; and the README says
 * what it is.
 */

setDefaultTimeout(60_000);

const README = readFileSync(join(import.meta.dir, '../../README.md'), 'utf8');

describe('the public surface', () => {
  let fake: FakeTriton;
  let server: RunningServer;

  beforeAll(async () => {
    const shape = { datatype: 'INT64', dimension: 1024, batchTextsMax: 32 } as const;
    fake = await startFakeTriton({ model: 'bge_model', ...shape });
    server = await startServer({ TRITON_URL: fake.url, TOKENIZER_WORKERS: '1' });
  });

  afterAll(async () => {
    await server?.close();
    await fake?.stop();
  });

  test('routes', async () => {
    const routes = server.routes.map(({ method, path }) => `${method} ${path}`);
    expect(routes.toSorted()).toMatchSnapshot();
  });

  test('each documented route exists, and each route is documented or hidden on purpose', async () => {
    const reply = await fetch(`${server.url}/swagger/json`);
    const { paths } = (await reply.json()) as { paths: Record<string, object> };
    const documented = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const routes = server.routes.map(
      ({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, '{$1}')}`,
    );
    expect(documented.filter((route) => !routes.includes(route))).toEqual([]);
    const hidden = routes.filter((route) => !documented.includes(route));
    expect(hidden.toSorted()).toMatchSnapshot();
  });

  test('settings', () => {
    const settings = Object.values<Setting>(SETTINGS).map(
      (setting) => `${setting.environment}=${setting.default} (${setting.unit})`,
    );
    expect(settings).toMatchSnapshot();
  });

  test('error codes', () => {
    const codes = Object.entries(ERRORS).map(
      ([code, { status, retryable }]) => `${code} ${status}${retryable ? ' may be repeated' : ''}`,
    );
    expect(codes).toMatchSnapshot();
  });

  test('exports of the client', () => {
    expect(Object.keys(client).toSorted()).toMatchSnapshot();
    const methods = Object.getOwnPropertyNames(client.APIEncoder.prototype);
    expect(methods.toSorted()).toMatchSnapshot();
  });
});

describe('the README', () => {
  test('names every route that a caller may use', () => {
    const documented = ['/encode', '/health', '/ready', '/get_vector_dim', '/info', '/swagger'];
    expect(documented.filter((path) => !README.includes(path))).toEqual([]);
  });
});
