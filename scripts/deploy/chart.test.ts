import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import packageJson from '../../package.json';
import type { Setting } from '../../src/config/setting-kinds.ts';
import { SETTINGS } from '../../src/config/settings.ts';
import { CHART_TOOLS, KUBERNETES_VERSIONS } from './chart-programs.ts';
import { CHART, chartSchema, DECIDED_BY_CHART } from './chart-schema.ts';

/**
 * The chart by helm itself, and what it makes against the schemas of the first and of the newest
 * Kubernetes that it takes, of KEDA and of the Prometheus operator.
 *
 * Faults that were planted by hand, and that this suite caught: a setting that is not in the
 * schema, a large number that Helm prints as 4e+06, `off` that reaches the server as `false`, a
 * probe's field misspelt, a field of KEDA misspelt, a drain longer than the pod's grace, Triton as
 * a container beside the encoder, a root file system that can be written, workers without a key.
 */

setDefaultTimeout(120_000);

const VALUE_FILES = readdirSync(join(CHART, 'ci')).sort();

interface Container {
  readonly name: string;
  readonly restartPolicy?: string;
  readonly env?: readonly { name: string; value?: string; valueFrom?: unknown }[];
  readonly args?: readonly string[];
  readonly securityContext?: unknown;
  readonly readinessProbe?: { readonly httpGet?: { readonly scheme: string } };
}

interface PodSpec {
  readonly terminationGracePeriodSeconds: number;
  readonly automountServiceAccountToken: boolean;
  readonly securityContext: Readonly<Record<string, unknown>>;
  readonly nodeSelector?: Readonly<Record<string, string>>;
  readonly tolerations?: readonly { readonly key: string }[];
  readonly initContainers?: readonly Container[];
  readonly containers: readonly Container[];
}

interface Manifest {
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec: {
    readonly replicas?: number;
    readonly template?: { readonly spec: PodSpec };
  } & Readonly<Record<string, unknown>>;
  readonly data?: Readonly<Record<string, string>>;
}

function helm(...words: readonly string[]) {
  const run = Bun.spawnSync([CHART_TOOLS.helm, ...words], { stdout: 'pipe', stderr: 'pipe' });
  return { exitCode: run.exitCode, out: run.stdout.toString(), said: run.stderr.toString() };
}

function template(...words: readonly string[]): string {
  const { exitCode, out, said } = helm(
    'template',
    'fleet',
    CHART,
    '--namespace',
    'search',
    ...words,
  );
  if (exitCode !== 0) throw new Error(said);
  return out;
}

function manifestsOf(...words: readonly string[]): readonly Manifest[] {
  return template(...words)
    .split(/^---$/m)
    .map((text) => Bun.YAML.parse(text) as Manifest | null)
    .filter((manifest) => manifest !== null);
}

/** Values by `--set-json`, which keeps numbers and words apart. */
function withValues(values: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(values).flatMap(([path, value]) => [
    '--set-json',
    `${path}=${JSON.stringify(value)}`,
  ]);
}

function podOf(manifests: readonly Manifest[], name = 'fleet-bge-m3-encoder'): PodSpec {
  const found = manifests.find((one) => one.kind === 'Deployment' && one.metadata.name === name);
  const spec = found?.spec.template?.spec;
  if (spec === undefined) throw new Error(`There is no Deployment ${name}.`);
  return spec;
}

function environmentOf(...words: readonly string[]): ReadonlyMap<string, string> {
  const [encoder] = podOf(manifestsOf(...words)).containers;
  return new Map((encoder?.env ?? []).map(({ name, value }) => [name, value ?? 'from a Secret']));
}

test('helm lint has nothing against it', () => {
  for (const file of VALUE_FILES) {
    const { exitCode, out } = helm('lint', '--strict', CHART, '--values', join(CHART, 'ci', file));
    expect(out).toContain('0 chart(s) failed');
    expect(exitCode).toBe(0);
  }
});

test('it has the version of package.json', async () => {
  const chart = Bun.YAML.parse(await Bun.file(join(CHART, 'Chart.yaml')).text());
  expect(chart).toMatchObject({ version: packageJson.version, appVersion: packageJson.version });
});

describe.each([...KUBERNETES_VERSIONS])('for Kubernetes %s', (version) => {
  function faultsOf(manifests: string): string {
    const { schemas, crdSchemas, kubeconform } = CHART_TOOLS;
    const locations = ['-schema-location', schemas, '-schema-location', crdSchemas];
    const run = Bun.spawnSync(
      [kubeconform, '-strict', '-summary', '-kubernetes-version', version, ...locations],
      { stdin: Buffer.from(manifests), stdout: 'pipe', stderr: 'pipe' },
    );
    return `${run.exitCode} ${run.stdout}${run.stderr}`;
  }

  test.each(VALUE_FILES)('%s', (file) => {
    const values = ['--values', join(CHART, 'ci', file), '--kube-version', version];
    const said = faultsOf(template(...values));
    expect(said).toMatch(/^0 Summary: .* Valid: [1-9]\d*, Invalid: 0, Errors: 0, Skipped: 0/);
  });

  // Faults planted by hand: what the test above must catch.
  test.each([
    ['a misspelt probe', '1-embedded.yaml', 'readinessProbe:', 'readynessProbe:'],
    [
      'a number that is a word',
      '1-embedded.yaml',
      'terminationGracePeriodSeconds: 40',
      'terminationGracePeriodSeconds: "40"',
    ],
    ['a misspelt field of KEDA', '5-keda.yaml', 'maxReplicaCount:', 'maxReplicas:'],
    ['a misspelt field of a route', '5-keda.yaml', 'backendRefs:', 'backends:'],
    ["a misspelt field of Envoy's policy", '5-keda.yaml', 'loadBalancer:', 'loadBalancing:'],
    ['a misspelt field of a ServiceMonitor', '8-monitoring-jobs.yaml', 'relabelings:', 'relabels:'],
  ])('%s is caught', (_what, file, right, wrong) => {
    const made = template('--values', join(CHART, 'ci', file));
    expect(made).toContain(right);
    expect(faultsOf(made.replace(right, wrong))).toMatch(/^1 /);
  });
});

describe('settings', () => {
  const all = Object.values<Setting>(SETTINGS);

  /** A value of each setting that is not its default, as a user would write it. */
  const written = Object.fromEntries(
    all
      .filter(({ environment, isSecret }) => !isSecret && !(environment in DECIDED_BY_CHART))
      .map(({ environment, range, choices, default: value }) => [
        environment,
        range?.[1] ?? choices?.find((word) => word !== value) ?? 'word',
      ]),
  );
  const secrets = all.filter(({ isSecret }) => isSecret).map(({ environment }) => environment);

  test('each can be set, and the server knows each that is', () => {
    const environment = environmentOf(
      ...withValues({
        backend: 'external',
        'triton.url': 'http://triton:8000',
        'tls.existingSecret': 'tls',
        'keys.existingSecret': 'keys',
        settings: written,
        secretSettings: Object.fromEntries(secrets.map((name) => [name, { name: 'a', key: 'b' }])),
      }),
    );
    const known = new Set(all.map((setting) => setting.environment));
    expect([...known].filter((name) => !environment.has(name))).toEqual([]);
    expect([...environment.keys()].filter((name) => !known.has(name))).toEqual([]);
    for (const [name, value] of Object.entries(written)) {
      expect([name, environment.get(name)]).toEqual([name, String(value)]);
    }
    for (const name of secrets) expect(environment.get(name)).toBe('from a Secret');
  });

  test('what YAML reads as truths and as large numbers reaches the server as it reads them', () => {
    const environment = environmentOf('--values', join(CHART, 'ci/1-embedded.yaml'));
    expect(environment.get('TRUNCATE')).toBe('off');
    expect(environment.get('QUEUE_TOKENS_MAX')).toBe('8000000');
  });

  test('the schema is made of the table of settings and of values.yaml', async () => {
    const file = await Bun.file(join(CHART, 'values.schema.json')).text();
    // `bun scripts/deploy/chart-schema.ts` writes it.
    expect(file).toBe(await chartSchema());
  });

  test.each<[string, Readonly<Record<string, unknown>>]>([
    ['a setting that is none', { 'settings.QUEUE_TEXT_MAX': 5 }],
    ['a number beyond its range', { 'settings.BATCH_TEXTS_MAX': 5000 }],
    ['a number that is a word', { 'settings.QUEUE_TEXTS_MAX': 'many' }],
    ['a word that is none', { 'settings.LOG_LEVEL': 'loud' }],
    ['a secret in plain sight', { 'settings.API_KEYS': 'k' }],
    ['a setting that another value decides', { 'settings.BACKEND': 'triton' }],
    ['a value that is none', { replica: 3 }],
    ['one further down', { 'autoscaling.keda.prometeus': 'http://p' }],
    ['a backend that is none', { backend: 'gpu' }],
    ['a number of pods that is a word', { replicas: 'two' }],
    ['an external Triton without an address', { backend: 'external' }],
  ])('refused: %s', (_what, values) => {
    const [path = ''] = Object.keys(values);
    const { exitCode, said } = helm('template', 'fleet', CHART, ...withValues(values));
    expect(exitCode).toBe(1);
    expect(said).toContain(path.split('.').at(-1) ?? path);
  });
});

describe('a pod', () => {
  test.each(VALUE_FILES)('of %s may do nothing that it need not', (file) => {
    const manifests = manifestsOf('--values', join(CHART, 'ci', file));
    const pods = manifests.flatMap(({ spec }) => spec?.template?.spec ?? []);
    expect(pods.length).toBeGreaterThan(0);
    for (const pod of pods) {
      expect(pod.automountServiceAccountToken).toBe(false);
      expect(pod.securityContext).toMatchObject({ runAsNonRoot: true });
      for (const container of [...(pod.initContainers ?? []), ...pod.containers]) {
        expect(container.securityContext).toEqual({
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        });
      }
    }
  });

  test('has no user of ours where the platform gives it one', () => {
    const { securityContext } = podOf(
      manifestsOf('--values', join(CHART, 'ci/7-arbitrary-uid.yaml')),
    );
    expect(securityContext).not.toContainKeys(['runAsUser', 'runAsGroup', 'fsGroup']);
  });

  test.each([
    [{}, 40],
    [{ 'drain.delayMs': 1500, 'drain.timeoutMs': 30_000, 'drain.marginSeconds': 5 }, 37],
  ])('has the time that its drain takes: %p', (values, seconds) => {
    const words = withValues(values);
    expect(podOf(manifestsOf(...words)).terminationGracePeriodSeconds).toBe(seconds);
    const environment = environmentOf(...words);
    const drainMs = ['SHUTDOWN_DELAY_MS', 'DRAIN_TIMEOUT_MS'].map((name) =>
      Number(environment.get(name)),
    );
    expect(drainMs.reduce((sum, ms) => sum + ms) / 1000).toBeLessThan(seconds);
  });

  test('keeps its Triton until the encoder has drained', () => {
    const pod = podOf(manifestsOf('--values', join(CHART, 'ci/2-gpu-sidecar.yaml')));
    // Kubernetes ends sidecars, which are init containers that go on, after all others.
    expect(pod.initContainers?.at(-1)).toMatchObject({ name: 'triton', restartPolicy: 'Always' });
    expect(pod.containers.map(({ name }) => name)).toEqual(['encoder']);
    // As Compose does: the engine's own profiles, and no batcher that joins past them.
    const flags = ['--model-config-name=engine', '--disable-auto-complete-config'];
    expect(pod.initContainers?.at(-1)?.args).toEqual(expect.arrayContaining(flags));
  });

  test('goes, with a Triton beside it, where both may go', () => {
    const spot = { key: 'spot', operator: 'Exists' };
    const place = { nodeSelector: { pool: 'search' }, tolerations: [spot] };
    const gpu = { 'triton.nodeSelector': { gpu: 'l4' } };
    const sidecar = podOf(manifestsOf(...withValues({ backend: 'sidecar', ...place, ...gpu })));
    expect(sidecar.nodeSelector).toEqual({ gpu: 'l4', pool: 'search' });
    expect(sidecar.tolerations?.map(({ key }) => key)).toEqual(['nvidia.com/gpu', 'spot']);
    const apart = manifestsOf(...withValues({ backend: 'apart', ...place, ...gpu }));
    expect(podOf(apart).nodeSelector).toEqual({ pool: 'search' });
    expect(podOf(apart, 'fleet-bge-m3-encoder-triton').nodeSelector).toEqual({ gpu: 'l4' });
  });

  test('is asked by HTTPS where it speaks it', () => {
    const [encoder] = podOf(
      manifestsOf('--values', join(CHART, 'ci/6-tls-keys-network.yaml')),
    ).containers;
    expect(encoder?.readinessProbe?.httpGet?.scheme).toBe('HTTPS');
  });
});

test('workers bring the key that the server asks for, and are let through', () => {
  const values = ['--values', join(CHART, 'ci/8-monitoring-jobs.yaml')];
  const manifests = manifestsOf(...values);
  const [worker] = podOf(manifests, 'fleet-bge-m3-encoder-jobs').containers;
  expect(worker?.args).toContain('--api-key-file=/etc/worker/key/key');
  const policy = manifests.find(({ kind }) => kind === 'NetworkPolicy');
  expect(JSON.stringify(policy?.spec.ingress)).toContain('"app.kubernetes.io/component":"jobs"');
  const keyless = withValues({ 'jobs.keySecret.name': '' });
  expect(() => manifestsOf(...values, ...keyless)).toThrow('jobs need jobs.keySecret');
});

// external-dns would give the name to the pods' own addresses, too.
test("what a cloud is told of the Service is not said of the pods' own one", () => {
  const annotations = { 'external-dns.alpha.kubernetes.io/hostname': 'encoder.example' };
  const services = manifestsOf(...withValues({ 'service.annotations': annotations })).filter(
    ({ kind }) => kind === 'Service',
  );
  const said = Object.fromEntries(
    services.map(({ metadata }) => [metadata.name, metadata.annotations]),
  );
  const name = 'fleet-bge-m3-encoder';
  expect(said).toEqual({ [name]: annotations, [`${name}-pods`]: undefined });
});

test('an Ingress ends TLS itself, for each of its hosts', () => {
  const values = ['--values', join(CHART, 'ci/4-hpa.yaml')];
  const ingress = manifestsOf(...values).find(({ kind }) => kind === 'Ingress');
  const hosts = ['encoder.example', 'encoder.internal.example'];
  expect(ingress?.spec).toMatchObject({
    tls: [{ secretName: 'encoder-certificate', hosts }],
    rules: hosts.map((host) => ({ host })),
  });
  const twice = withValues({ 'tls.existingSecret': 'a' });
  expect(() => manifestsOf(...values, ...twice)).toThrow('let the Ingress end TLS');
  const nowhere = withValues({ 'ingress.hosts': [] });
  expect(() => manifestsOf(...values, ...nowhere)).toThrow('ingress.hosts');
  const unbound = withValues({ 'gateway.enabled': true });
  expect(() => manifestsOf(...unbound)).toThrow('gateway.parentRefs');
});

test('an autoscaler has the number of pods to itself', () => {
  for (const kind of ['hpa', 'keda']) {
    const [deployment] = manifestsOf(...withValues({ 'autoscaling.kind': kind })).filter(
      (one) => one.kind === 'Deployment',
    );
    expect(deployment?.spec.replicas).toBeUndefined();
  }
});

test("the README's fleet.yaml is one that the chart takes", async () => {
  const readme = await Bun.file(join(CHART, '../../../../README.md')).text();
  const text = /`fleet\.yaml`:\n\n```yaml\n([\s\S]*?)```/.exec(readme)?.[1] ?? '';
  const values = Bun.YAML.parse(text) as Readonly<Record<string, unknown>>;
  const kinds = manifestsOf(...withValues(values)).map(({ kind }) => kind);
  expect(kinds).toContainValues(['Deployment', 'ScaledObject', 'ServiceMonitor', 'NetworkPolicy']);
});

test('the alerts and the dashboard are those of scripts/monitoring', async () => {
  const made = manifestsOf('--values', join(CHART, 'ci/8-monitoring-jobs.yaml'));
  const folder = join(import.meta.dir, '../monitoring');
  const rules = made.find(({ kind }) => kind === 'PrometheusRule');
  expect(rules?.spec as unknown).toEqual(
    Bun.YAML.parse(await Bun.file(join(folder, 'alerts.yml')).text()),
  );
  const dashboard = made.find(({ metadata }) => metadata.name.endsWith('-dashboard'));
  expect(JSON.parse(dashboard?.data?.['bge-m3-encoder.json'] ?? '')).toEqual(
    await Bun.file(join(folder, 'dashboard.json')).json(),
  );
});
