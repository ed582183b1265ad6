/**
 * Writes the chart's `values.schema.json` anew, from its `values.yaml` and from the table of
 * settings: `bun scripts/deploy/chart-schema.ts`. A test fails while they differ.
 *
 * The shape is that of the defaults: an object with entries takes these and no other, an empty one
 * takes any. What a default does not tell is in `CLOSER`.
 */
import { join } from 'node:path';
import type { Setting } from '../../src/config/setting-kinds.ts';
import { SETTINGS } from '../../src/config/settings.ts';

export const CHART = join(import.meta.dir, 'helm/bge-m3-encoder');

/** Settings that a value of the chart's own decides, since more than the variable depends on it. */
export const DECIDED_BY_CHART: Readonly<Record<string, string>> = {
  BACKEND: 'backend',
  TRITON_URL: 'triton.url',
  SHUTDOWN_DELAY_MS: 'drain.delayMs',
  DRAIN_TIMEOUT_MS: 'drain.timeoutMs',
  TLS_CERT: 'tls.existingSecret',
  TLS_KEY: 'tls.existingSecret',
  API_KEYS_FILE: 'keys.existingSecret',
};

type Schema = Readonly<Record<string, unknown>>;

const ANY_OBJECT: Schema = { type: 'object' };
const TEXTS: Schema = { type: 'array', items: { type: 'string' } };
const OBJECTS: Schema = { type: 'array', items: { type: 'object' } };
const COUNT_OR_SHARE: Schema = { type: ['integer', 'string'], minimum: 0, pattern: '^\\d+%$' };
const USER: Schema = { type: ['integer', 'null'], minimum: 1 };
const PULL: Schema = { enum: ['Always', 'IfNotPresent', 'Never'] };
const SECRET_ENTRY: Schema = {
  type: 'object',
  required: ['name', 'key'],
  properties: { name: { type: 'string', minLength: 1 }, key: { type: 'string', minLength: 1 } },
  additionalProperties: false,
};

/** What is closer than its default tells, by path. */
const CLOSER: Readonly<Record<string, Schema>> = {
  'image.pullPolicy': PULL,
  'image.pullSecrets': OBJECTS,
  backend: { enum: ['embedded', 'sidecar', 'apart', 'external'] },
  settings: settingsSchema(false),
  secretSettings: settingsSchema(true),
  resources: ANY_OBJECT,
  'triton.pullPolicy': PULL,
  'triton.resources': ANY_OBJECT,
  'triton.extraArgs': TEXTS,
  'engine.source': { enum: ['volume', 'objectStore', 'build'] },
  'engine.objectStore.args': TEXTS,
  'engine.build.accessMode': { enum: ['ReadWriteMany', 'ReadWriteOnce'] },
  'engine.build.timeoutSeconds': { type: 'integer', minimum: 60 },
  'engine.build.args': TEXTS,
  'engine.build.env': OBJECTS,
  'engine.build.resources': ANY_OBJECT,
  'service.type': { enum: ['ClusterIP', 'NodePort', 'LoadBalancer'] },
  'service.port': { type: ['integer', 'null'], minimum: 1, maximum: 65_535 },
  'podSecurity.runAsUser': USER,
  'podSecurity.fsGroup': USER,
  'rollout.maxSurge': COUNT_OR_SHARE,
  'rollout.maxUnavailable': COUNT_OR_SHARE,
  'disruption.maxUnavailable': COUNT_OR_SHARE,
  'autoscaling.kind': { enum: ['none', 'hpa', 'keda'] },
  'autoscaling.minReplicas': { type: 'integer', minimum: 1 },
  'autoscaling.oldestTextSeconds': { type: 'number', exclusiveMinimum: 0 },
  'autoscaling.tokensPerSecond': { type: 'integer', minimum: 1 },
  'monitoring.dashboardLabels': ANY_OBJECT,
  'jobs.command': { ...TEXTS, minItems: 1 },
  'jobs.env': OBJECTS,
  'jobs.volumes': OBJECTS,
  'jobs.volumeMounts': OBJECTS,
  'gateway.parentRefs': OBJECTS,
  'gateway.hostnames': TEXTS,
  'ingress.hosts': TEXTS,
  extraEnv: OBJECTS,
  extraVolumes: OBJECTS,
  extraVolumeMounts: OBJECTS,
  'jobs.resources': ANY_OBJECT,
};

/** The schema, as the file holds it. */
export async function chartSchema(): Promise<string> {
  const values: unknown = Bun.YAML.parse(await Bun.file(join(CHART, 'values.yaml')).text());
  const left = new Set(Object.keys(CLOSER));
  const schema = {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'Values of the chart bge-m3-encoder',
    ...schemaOf(values, '', left),
  };
  if (left.size > 0) throw new Error(`values.yaml has no ${[...left].join(', ')}.`);
  return `${JSON.stringify(schema, undefined, 2)}\n`;
}

function schemaOf(value: unknown, path: string, left: Set<string>): Schema {
  const closer = CLOSER[path];
  if (closer !== undefined) {
    left.delete(path);
    return closer;
  }
  if (Array.isArray(value)) return { type: 'array' };
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value);
    if (entries.length === 0) return ANY_OBJECT;
    const below = (name: string) => (path === '' ? name : `${path}.${name}`);
    const properties = entries.map(([name, inner]) => [name, schemaOf(inner, below(name), left)]);
    // Helm puts `global` there for charts that contain this one.
    if (path === '') properties.push(['global', ANY_OBJECT]);
    return {
      type: 'object',
      properties: Object.fromEntries(properties),
      additionalProperties: false,
    };
  }
  if (typeof value === 'number') return { type: 'integer', minimum: 0 };
  return { type: typeof value };
}

/** Settings by their variable: all that are secret, or all others that no value decides. */
function settingsSchema(isSecret: boolean): Schema {
  const settings = Object.values<Setting>(SETTINGS).filter(
    (setting) =>
      (setting.isSecret === true) === isSecret && !(setting.environment in DECIDED_BY_CHART),
  );
  const properties = settings.map((setting) => [
    setting.environment,
    { description: setting.meaning, ...(isSecret ? SECRET_ENTRY : valueSchema(setting)) },
  ]);
  return {
    type: 'object',
    properties: Object.fromEntries(properties),
    additionalProperties: false,
  };
}

function valueSchema({ range, choices }: Setting): Schema {
  if (range !== undefined) return { type: 'integer', minimum: range[0], maximum: range[1] };
  // YAML reads these words as truths, unless they are quoted.
  const isSwitch = choices?.includes('on') === true;
  if (choices !== undefined) return { enum: isSwitch ? [...choices, true, false] : choices };
  return { type: 'string' };
}

if (import.meta.main) {
  await Bun.write(join(CHART, 'values.schema.json'), await chartSchema());
}
