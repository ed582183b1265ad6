import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ClientCase } from './client-case.ts';
import { startClientProcess } from './client-process.ts';
import { clientsPython } from './clients-venv.ts';

/** One Python process that drives all Python clients, so that each is imported once. */
export interface PythonClients {
  readonly cases: readonly ClientCase[];
  /** LangChain as it is without the setting that the README names: it sends foreign token ids. */
  foreignIds(url: string, texts: readonly string[]): Promise<string>;
  close(): Promise<void>;
}

/** The clients by name, and whether each tries again when the server is busy. */
const IS_RETRYING = {
  'openai (Python)': true,
  'langchain-openai (Python)': true,
  'langchain-huggingface (Python)': false,
  'huggingface_hub (Python)': false,
  'LlamaIndex OpenAIEmbedding (Python)': true,
  'LlamaIndex TextEmbeddingsInference (Python)': false,
  'requests + msgpack-numpy (Python)': false,
  'ollama (Python)': false,
  'langchain-ollama (Python)': false,
  'cohere (Python)': true,
  'voyageai (Python)': false,
  'infinity_client (Python)': false,
  'Chroma OllamaEmbeddingFunction (Python)': false,
  'Chroma OpenAIEmbeddingFunction (Python)': true,
  'LiteLLM openai/ (Python)': true,
  'LiteLLM ollama/ (Python)': false,
  'Haystack (Python)': true,
  'txtai (Python)': true,
  'mem0 (Python)': true,
  'baseten-performance-client (Python)': true,
  'sie-sdk (Python)': true,
};

/**
 * Starts the process.
 *
 * @throws Error when the venv of the clients is not set up.
 */
export function startPythonClients(): PythonClients {
  if (!existsSync(clientsPython())) {
    throw new Error(
      'The Python clients are missing: run `./run.sh test` or `bun scripts/ci/clients-setup.ts`.',
    );
  }
  const home = mkdtempSync(join(tmpdir(), 'clients-home-'));
  const python = startClientProcess([clientsPython(), join(import.meta.dir, 'clients.py')], {
    // Nothing of the caller's settings, and nothing told to anybody.
    PATH: '/usr/local/bin:/usr/bin:/bin',
    LC_ALL: 'C.UTF-8',
    HF_HUB_DISABLE_TELEMETRY: '1',
    LANGSMITH_TRACING: 'false',
    HAYSTACK_TELEMETRY_ENABLED: 'False',
    ANONYMIZED_TELEMETRY: 'False',
    MEM0_TELEMETRY: 'False',
    // Else it asks a host for its list of prices.
    LITELLM_LOCAL_MODEL_COST_MAP: 'True',
    // Some of them leave a folder of their own there.
    HOME: home,
  });
  return {
    cases: Object.entries(IS_RETRYING).map(([name, isRetrying]) => python.caseOf(name, isRetrying)),
    foreignIds: (url, texts) => python.complaint('langchain-openai, by default', url, texts),
    async close() {
      await python.close();
      rmSync(home, { recursive: true, force: true });
    },
  };
}
