import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ProvisionError } from '../../src/provision/provision-error.ts';
import { runCommandSync } from '../../src/provision/run-command.ts';
import { findPython, makePinnedVenv } from '../../src/provision/setup/python-venv.ts';
import { CLIENTS_VENV_DIRECTORY, clientsPython } from '../../src/testing/clients/clients-venv.ts';

/**
 * Makes the Python venv of the clients that the tests call the server with, and of schemathesis.
 * Does nothing, in milliseconds, where the venv stands already. `bun scripts/ci/clients-setup.ts`
 */

/** What the tests use. txtai names torch, which the call that is tested does not need. */
const CLIENTS = [
  'schemathesis==4.30.1',
  'openai==3.57.0',
  'langchain-openai==1.7.4',
  'langchain-huggingface==1.2.3',
  'huggingface_hub==2.4.0',
  'llama-index-embeddings-text-embeddings-inference==0.6.0',
  'llama-index-embeddings-openai==0.7.0',
  'ollama==0.6.3',
  'langchain-ollama==1.1.0',
  'cohere==7.3.1',
  'voyageai==0.5.0',
  'infinity_client==0.0.78',
  'chromadb-client==1.5.9',
  'litellm==1.110.2',
  'haystack-ai==3.4.1',
  'txtai==9.14.0',
  'mem0ai==2.2.1',
  'baseten_performance_client==0.1.16',
  'sie-sdk==0.10.1',
] as const;

/**
 * What those need, by version too: a set-up next year installs the same. Left out is what they
 * name and none of our calls touches: a third of the bytes.
 */
const DEPENDENCIES = [
  'aiohappyeyeballs==2.7.1',
  'aiohttp==3.14.5',
  'aiolimiter==1.3.0',
  'aiosignal==1.4.0',
  'annotated-types==0.8.0',
  'anyio==4.16.0',
  'attrs==26.1.0',
  'backoff==2.2.1',
  'banks==2.5.1',
  'certifi==2026.10.19.post1',
  'charset-normalizer==3.5.2',
  'click==8.5.1',
  'dataclasses-json==0.6.7',
  'Deprecated==1.3.1',
  'dirtyjson==1.0.8',
  'distro==1.9.0',
  'docstring_parser==0.18.0',
  'fastavro==1.13.1',
  'fastuuid==0.14.0',
  'filelock==4.1.0',
  'filetype==1.2.0',
  'frozenlist==1.8.0',
  'fsspec==2026.9.0',
  'googleapis-common-protos==1.76.0',
  'graphql-core==3.3.2',
  'greenlet==3.5.6',
  'griffe==2.3.0',
  'griffelib==2.3.0',
  'grpcio==1.85.3',
  'h11==0.16.0',
  'h2==4.4.1',
  'harfile==0.6.0',
  'hpack==4.2.0',
  'httpcore2==2.14.0',
  'httpcore==1.0.9',
  'httpx2==2.14.0',
  'httpx==0.28.1',
  'hyperframe==6.1.0',
  'hypothesis-graphql==0.13.5',
  'hypothesis==6.168.5',
  'idna==3.20',
  'importlib_metadata==8.9.0',
  'iniconfig==2.3.1',
  'Jinja2==3.1.6',
  'jiter==0.18.0',
  'jsonpatch==1.46',
  'jsonpointer==3.12',
  'jsonschema-specifications==2025.9.1',
  'jsonschema==4.26.0',
  'jsonschema_rs==0.58.6',
  'langchain-core==1.7.5',
  'langchain-protocol==0.0.20',
  'langchain-text-splitters==1.1.3',
  'langsmith==0.14.17',
  'lazy_imports==1.2.0',
  'llama-index-core==0.14.25',
  'llama-index-instrumentation==0.6.0',
  'llama-index-utils-huggingface==0.4.1',
  'llama-index-workflows==2.26.1',
  'markdown-it-py==4.3.0',
  'MarkupSafe==3.0.4',
  'marshmallow==3.26.2',
  'mdurl==0.1.2',
  'more-itertools==11.2.1',
  'msgpack-numpy==0.4.8',
  'msgpack==1.2.1',
  'multidict==7.1.0',
  'mypy_extensions==1.2.0',
  'nest-asyncio==1.6.0',
  'networkx==3.6.1',
  'numpy==2.2.6',
  'opentelemetry-api==1.45.2',
  'opentelemetry-exporter-otlp-common==0.66b2',
  'opentelemetry-exporter-otlp-proto-common==1.45.2',
  'opentelemetry-exporter-otlp-proto-grpc==1.45.2',
  'opentelemetry-proto==1.45.2',
  'opentelemetry-sdk==1.45.2',
  'opentelemetry-semantic-conventions==0.66b2',
  'orjson==3.13.0',
  'overrides==7.7.0',
  'packaging==26.3',
  'pillow==12.3.0',
  'platformdirs==4.12.4',
  'pluggy==1.7.0',
  'portalocker==4.4.2',
  'posthog==7.91.1',
  'propcache==0.5.4',
  'protobuf==6.33.6',
  'pybase64==1.5.1',
  'pydantic-settings==2.16.3',
  'pydantic==2.14.3',
  'pydantic_core==2.50.4',
  'Pygments==2.21.0',
  'pyrate-limiter==4.5.1',
  'pytest==9.2.0',
  'python-dateutil==2.9.0.post0',
  'python-dotenv==1.2.4',
  'pytz==2026.6',
  'PyYAML==6.0.3',
  'qdrant-client==1.20.0',
  'referencing==0.37.0',
  'regex==2026.9.29',
  'requests-toolbelt==1.0.0',
  'requests==2.34.2',
  'rich==15.0.0',
  'rpds-py==2026.9.1',
  'six==1.17.0',
  'sniffio==1.3.1',
  'sortedcontainers==2.4.0',
  'SQLAlchemy==2.0.58',
  'tenacity==9.2.1',
  'tiktoken==0.14.0',
  'tinytag==2.3.2',
  'tokenizers==0.23.3',
  'tqdm==4.70.1',
  'truststore==0.10.5',
  'typing-inspect==0.9.0',
  'typing-inspection==0.4.5',
  'typing_extensions==4.16.0',
  'urllib3==2.8.0',
  'uuid_utils==0.19.0',
  'websockets==14.2',
  'Werkzeug==3.1.9',
  'wrapt==2.5.2',
  'xxhash==4.1.0',
  'yarl==1.25.1',
  'zipp==4.1.2',
] as const;

/** What Python 3.10 lacks. */
const BACKPORTS = ['async-timeout==5.0.1', 'exceptiongroup==1.3.0', 'tomli==2.2.1'] as const;

const VERSIONS = ['3.10', '3.11', '3.12', '3.13'] as const;

const started = performance.now();

function say(line: string): void {
  console.log(`clients-setup: ${line}`);
}

interface Stamp {
  readonly pins: readonly string[];
  readonly pythonVersion: string;
}

const stampOf = (directory: string): string => join(directory, 'stamp.json');

const pinsFor = (version: string): readonly string[] => [
  ...CLIENTS,
  ...DEPENDENCIES,
  ...(version === '3.10' ? BACKPORTS : []),
];

function isReady(): boolean {
  const file = stampOf(CLIENTS_VENV_DIRECTORY);
  if (!existsSync(file)) return false;
  const stamp = JSON.parse(readFileSync(file, 'utf8')) as Stamp;
  const isSame = stamp.pins.join() === pinsFor(stamp.pythonVersion).join();
  return isSame && existsSync(clientsPython());
}

function finish(directory: string, version: string): void {
  const modules =
    'langchain_openai, langchain_huggingface.embeddings, schemathesis, sie_sdk, ' +
    'llama_index.embeddings.text_embeddings_inference';
  const imported = runCommandSync([join(directory, 'bin/python'), '-c', `import ${modules}`]);
  if (imported.exitCode !== 0) {
    const why = imported.errors.trim().split('\n').at(-1);
    throw new ProvisionError(`the installed packages do not import: ${why}`);
  }
  const stamp: Stamp = { pins: pinsFor(version), pythonVersion: version };
  writeFileSync(stampOf(directory), JSON.stringify(stamp, null, 2));
}

try {
  if (!isReady()) {
    const python = findPython({ versions: VERSIONS });
    const pins = pinsFor(python.version);
    say(`installing ${pins.length} pinned packages, 500 MB on the disk: ${CLIENTS.join(' ')} …`);
    makePinnedVenv({
      directory: CLIENTS_VENV_DIRECTORY,
      python,
      pins,
      // Every sie-sdk says that it is for Python 3.12 and newer, and runs on 3.10.
      anyPython: true,
      finish: (directory) => finish(directory, python.version),
      isReady,
      say,
    });
    say(`ready in ${((performance.now() - started) / 1000).toFixed(1)} s`);
  }
} catch (error) {
  if (!(error instanceof ProvisionError)) throw error;
  console.error(`clients-setup: ${error.message}`);
  process.exit(1);
}
