import { describe, expect, test } from 'bun:test';
import { planTokenizerWorkers } from './fit.ts';
import { ConfigError, readConfig } from './read.ts';
import type { Setting } from './setting-kinds.ts';
import { SETTINGS } from './settings.ts';

const all = Object.entries<Setting>(SETTINGS);
const numbers = all.flatMap(([name, setting]) =>
  setting.range === undefined
    ? []
    : [{ name, variable: setting.environment, range: setting.range }],
);

/** The problems of an environment, one a line. */
function problemsOf(environment: Record<string, string>): readonly string[] {
  try {
    readConfig(environment);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.message.split('\n');
    throw error;
  }
}

/** One setting as it was read. */
function read(environment: Record<string, string>, name: string): unknown {
  return Reflect.get(readConfig(environment), name);
}

describe('without an environment', () => {
  test('every setting has its default, or what fits this machine, and nothing can change it', () => {
    const config = readConfig({});
    for (const [name, setting] of all) {
      const stands = setting.default !== 0 && setting.default !== '' && setting.default !== 'auto';
      if (stands) expect([name, Reflect.get(config, name)]).toEqual([name, setting.default]);
    }
    expect(config).toMatchObject({ backend: 'embedded', model: 'multilingual-e5-small' });
    expect(config.tokenizerWorkers).toBeGreaterThan(0);
    expect(Object.isFrozen(config)).toBe(true);
  });

  test('every default is one that the variable could be set to', () => {
    for (const [name, { range, choices, default: value }] of all) {
      if (range !== undefined) {
        expect([name, Number(value) >= range[0] && Number(value) <= range[1]]).toEqual([
          name,
          true,
        ]);
      }
      if (choices !== undefined && typeof value === 'string') expect(choices).toContain(value);
    }
  });

  test('an empty variable is an unset one', () => {
    expect(readConfig({ PORT: '', TRITON_URL: '', MODEL: '' })).toEqual(readConfig({}));
  });
});

describe('the catalogue', () => {
  test('names each variable once, in capitals, with a unit and a meaning', () => {
    const variables = all.map(([, setting]) => setting.environment);
    expect(new Set(variables).size).toBe(variables.length);
    for (const [, { environment, unit, meaning }] of all) {
      expect(environment).toMatch(/^[A-Z][A-Z0-9_]*$/);
      expect(unit).not.toBe('');
      expect(meaning).toMatch(/^[A-Z].*\.$/);
    }
  });
});

describe('numbers', () => {
  test.each(numbers)('$variable takes both ends of its range, and nothing beyond', (number) => {
    const { name, variable, range } = number;
    // The largest request and body must fit with others, whatever is tried here.
    const texts = { QUEUE_TEXTS_MAX: '10000000', REQUEST_TEXTS_MAX: '1' };
    const bodies = { BODIES_BYTES_MAX: '1073741824', BODY_BYTES_MAX: '64' };
    // Several processes share what is not embedded.
    const roomy = { ...texts, ...bodies, BACKEND: 'triton' };
    for (const value of range) {
      const config = readConfig({ ...roomy, [variable]: String(value) });
      if (value !== 0) expect(Reflect.get(config, name)).toBe(value);
    }
    const unusual = ['x', '1e', '1e2', '0x40', '+64', ' ', 'NaN', '६४'];
    for (const wrong of [range[0] - 1, range[1] + 1, range[0] + 0.5, ...unusual]) {
      const [problem] = problemsOf({ ...roomy, [variable]: String(wrong) });
      expect(problem).toStartWith(`${variable} must be`);
      expect(problem).toContain(String(range[0]));
      expect(problem).toContain(String(range[1]));
      expect(problem).toContain(`not "${wrong}"`);
    }
  });
});

describe('words and addresses', () => {
  test('only the known words are taken', () => {
    expect(read({ BACKEND: 'triton' }, 'backend')).toBe('triton');
    expect(problemsOf({ BACKEND: 'Triton' })).toEqual([
      'BACKEND must be one of auto, triton, embedded, not "Triton".',
    ]);
    expect(read({ TRUNCATE: 'off' }, 'truncate')).toBe(false);
    expect(problemsOf({ TRUNCATE: 'false' })[0]).toContain('on or off');
  });

  test('endpoints are listed once each, without a slash at the end', () => {
    const urls = 'http://a:8000/, https://b ,http://a:8000';
    expect(read({ TRITON_URL: urls }, 'tritonUrls')).toEqual(['http://a:8000', 'https://b']);
    for (const wrong of [
      'a:8000',
      'http://',
      'http://a:8000/v2',
      'ftp://a',
      'http://a,,http://b',
    ]) {
      expect(problemsOf({ TRITON_URL: wrong })[0]).toStartWith('TRITON_URL must be http(s)://');
    }
  });
});

test('an origin is spelt as browsers send it, or it would allow nobody', () => {
  const right = ['http://a.b', 'https://a-b.c:8443', 'http://[::1]:5173', 'http://localhost:8080'];
  expect(read({ CORS_ORIGINS: right.join() }, 'corsOrigins')).toEqual(right);
  for (const wrong of [
    ...['http://*.a.b', 'http://A.b', 'http://a.b:80', 'https://a.b:443', 'http://a.b/'],
    ...['https://пример.рф', 'a.b', 'null', 'http://me@a.b'],
  ]) {
    expect(problemsOf({ CORS_ORIGINS: wrong })[0]).toStartWith('CORS_ORIGINS must be http(s)://');
  }
});

describe('a wrong value is shown, up to a bound', () => {
  // Free texts and paths are never wrong here.
  const checked = all.filter(([, { parse }]) => parse('\u007f x') !== '\u007f x');

  test.each(checked.map(([, setting]) => [setting.environment, setting] as const))(
    '%s',
    (variable, { isSecret }) => {
      const problemOf = (raw: string): string =>
        problemsOf({ [variable]: raw }).find((line) => line.startsWith(`${variable} must be`)) ??
        '';
      const short = problemOf('\u007fFL 1');
      if (isSecret) expect(short).toEndWith('not what it is.');
      else expect(short).toEndWith('not "\u007fFL 1".');
      expect(short.split('FL 1').length).toBeLessThanOrEqual(2);
      expect(problemOf(`\u007f ${'x'.repeat(5000)}`).length).toBeLessThan(400);
    },
  );

  test('they are nearly all, and of a list the word that is wrong', () => {
    expect(checked.length).toBeGreaterThan(50);
    const [problem] = problemsOf({ TRITON_URL: 'http://a:1,http://me:pw@b:2/v2,http://c' });
    expect(problem).toBe(
      'TRITON_URL must be http(s)://host:port, comma-separated, not "http://…@b:2/v2".',
    );
    expect(problemsOf({ OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4318' })).toEqual([
      'OTEL_EXPORTER_OTLP_ENDPOINT must be http(s)://host:port of a collector, not "collector:4318".',
    ]);
  });
});

test('an IPv6 address may have the brackets that it has in a URL', () => {
  expect(read({ HOST: '[::1]' }, 'host')).toBe('::1');
  expect(read({ HOST: '::1' }, 'host')).toBe('::1');
});

describe('what is chosen', () => {
  test('triton and BGE-M3 where there is an endpoint, embedded otherwise', () => {
    const triton = { backend: 'triton', model: 'bge-m3' };
    expect(readConfig({ TRITON_URL: 'http://a:8000' })).toMatchObject(triton);
    expect(readConfig({ BACKEND: 'triton' })).toMatchObject(triton);
    const told = { TRITON_URL: 'http://a:8000', BACKEND: 'embedded' };
    expect(readConfig(told)).toMatchObject({ backend: 'embedded' });
    expect(read({ BACKEND: 'triton', MODEL: 'other' }, 'model')).toBe('other');
  });

  test.each([
    [1, 1, 2],
    [8, 1, 4],
    [64, 1, 4],
    [2, 2, 1],
    [16, 2, 4],
    [16, 8, 1],
    [64, 16, 2],
  ])('on %d cores, each of %d processes has %d tokenizer workers', (cores, count, workers) => {
    expect(planTokenizerWorkers(cores, { serverProcesses: count })).toBe(workers);
  });
});

describe('problems', () => {
  test('are told all at once, in the order of the catalogue', () => {
    const problems = problemsOf({ TRUNCATE: '1', PORT: '-1', BACKEND: 'gpu', LOG_LEVEL: 'loud' });
    expect(problems.map((problem) => problem.split(' ')[0])).toEqual([
      ...['PORT', 'BACKEND', 'TRUNCATE', 'LOG_LEVEL'],
    ]);
  });

  test.each([
    ['REQUEST_TEXTS_MAX', 'QUEUE_TEXTS_MAX'],
    ['BODY_BYTES_MAX', 'BODIES_BYTES_MAX'],
  ])('that lie between two settings are told with both: %s, %s', (part, whole) => {
    const problems = problemsOf({ [part]: '100', [whole]: '99' });
    expect(problems).toHaveLength(1);
    for (const said of [part, '100', whole, '99']) expect(problems[0]).toContain(said);
  });

  test('a connection may not end under its request', () => {
    const [problem] = problemsOf({ KEEP_ALIVE_MS: '60000', REQUEST_TIMEOUT_MS: '60000' });
    expect(problem).toStartWith('KEEP_ALIVE_MS (60000) must exceed REQUEST_TIMEOUT_MS (60000)');
    for (const keepAlive of ['0', '60001']) {
      expect(problemsOf({ KEEP_ALIVE_MS: keepAlive, REQUEST_TIMEOUT_MS: '60000' })).toEqual([]);
    }
  });

  // Caught: it was so before, and the runtime closed the connection while the request was at work.
  test('nor under one that is held first', () => {
    const held = (environment: Record<string, string>) => read(environment, 'queueHoldMs');
    expect(held({ KEEP_ALIVE_MS: '70000', REQUEST_TIMEOUT_MS: '60000' })).toBe(10_000);
    expect(held({ REQUEST_TIMEOUT_MS: '250000' })).toBe(5000);
    expect(held({ KEEP_ALIVE_MS: '0', REQUEST_TIMEOUT_MS: '250000' })).toBe(60_000);
    expect(held({ QUEUE_HOLD_MS: '120000' })).toBe(120_000);
  });

  test.each([
    ['BACKEND', { BACKEND: 'embedded', TRITON_URL: 'http://a:8000' }],
    ['BACKEND', {}],
    ['FALLBACK', { TRITON_URL: 'http://a:8000', FALLBACK: 'embedded' }],
    ['UNIX_SOCKET', { TRITON_URL: 'http://a:8000', UNIX_SOCKET: 'here.sock' }],
  ])('that several processes cannot share are told: %s, %j', (variable, settings) => {
    const problems = problemsOf({ ...settings, SERVER_PROCESSES: '3' });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toStartWith('SERVER_PROCESSES (3)');
    expect(problems[0]).toContain(variable);
    expect(problemsOf({ ...settings, SERVER_PROCESSES: '1' })).toEqual([]);
    const shared = { TRITON_URL: 'http://a:8000', SERVER_PROCESSES: '3' };
    expect(problemsOf(shared)).toEqual([]);
  });
});

describe('variables that are no settings', () => {
  // Planted and caught: every unknown variable refused, a mistyped one let through.
  test.each([
    ['API_KEY', 'API_KEYS'],
    ['TLS_CERTS', 'TLS_CERT'],
    ['KEYLESS_PATH', 'KEYLESS_PATHS'],
    ['QUEUE_TEXT_MAX', 'QUEUE_TEXTS_MAX'],
    ['BAKCEND', 'BACKEND'],
    ['MODELS', 'MODEL'],
  ])('%s stops the start and names %s', (name, meant) => {
    const problems = problemsOf({ [name]: 'secret' });
    const told = `${name} is no setting: is ${meant} meant? If it belongs to another program, set`;
    expect(problems).toEqual([`${told} FOREIGN_VARIABLES=${name}.`]);
    expect(problemsOf({ [name]: '' })).toEqual([]);
    expect(problemsOf({ [name]: 'x', FOREIGN_VARIABLES: `OTHER,${name}` })).toEqual([]);
  });

  test("those of a shell, of Kubernetes, of Docker and of this project's tools stop nothing", () => {
    const others =
      'CI DEBUG DISPLAY EDITOR HF_ENDPOINT HOME HOSTNAME HTTP_PROXY KUBERNETES_SERVICE_HOST LANG ' +
      'LC_ALL LOGNAME MAIL MODE NODE_ENV NO_PROXY OLDPWD PATH PWD SHELL SHLVL SSH_TTY TERM TMPDIR ' +
      'TRITON_GPU TRITON_IMAGE TRITON_PORT TRITON_SERVICE_PORT TZ USER VIRTUAL_ENV XDG_CACHE_HOME ' +
      'BUN_INSTALL DO_NOT_TRACK ORT_DISABLE_TELEMETRY npm_config_registry _';
    const set = Object.fromEntries(others.split(' ').map((name) => [name, 'x']));
    expect(problemsOf(set)).toEqual([]);
  });
});
