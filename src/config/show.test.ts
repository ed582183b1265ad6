import { expect, test } from 'bun:test';
import { readConfig } from './read.ts';
import { readSources, settingLines } from './show.ts';

/** The words of each line, by variable. */
function shown(environment: Record<string, string>, sources: readonly string[] = []) {
  const lines = settingLines(readConfig(environment), environment, readSources(sources));
  return Object.fromEntries(
    lines.map((line) => [line.split(' ', 1)[0], line.split(/ {2,}/).slice(1)]),
  );
}

// Planted and caught: a secret shown, a source taken for a variable that is not set.
test('each setting tells its value and where it is from', () => {
  const environment = {
    PORT: '9000',
    API_KEYS: 'key-1,key-2',
    TRITON_URL: 'http://user:password@a:8000,http://b:8000',
    TRUNCATE: 'off',
  };
  const lines = shown(environment, ['PORT=--port', 'API_KEYS=.env', 'HOST=.env']);
  expect(lines).toMatchObject({
    PORT: ['9000', '--port'],
    API_KEYS: ['2 hidden', '.env'],
    TRITON_URL: ['http://…@a:8000,http://b:8000', 'environment'],
    TRUNCATE: ['off', 'environment'],
    HOST: [readConfig({}).host, 'this machine'],
    BACKEND: ['triton', 'this machine'],
    TLS_CERT: ['-', 'default'],
    OTEL_EXPORTER_OTLP_HEADERS: ['0 hidden', 'default'],
  });
  expect(JSON.stringify(lines)).not.toMatch(/key-|password/);
});
