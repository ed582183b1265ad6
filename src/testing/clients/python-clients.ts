import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ClientCase } from './client-case.ts';
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

interface Answer {
  readonly id: number;
  readonly vectors?: readonly (readonly number[])[];
  readonly error?: string;
}

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
  const child = Bun.spawn([clientsPython(), join(import.meta.dir, 'clients.py')], {
    stdin: 'pipe',
    stdout: 'pipe',
    stderr: 'inherit',
    // Nothing of the caller's settings, and nothing told to anybody.
    env: {
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
    },
  });
  const waiting = new Map<number, (answer: Answer) => void>();
  let asked = 0;

  const reading = readAnswers(child.stdout, (answer) => {
    waiting.get(answer.id)?.(answer);
    waiting.delete(answer.id);
  }).finally(() => {
    for (const [id, resolve] of waiting) resolve({ id, error: 'the Python process has ended' });
    waiting.clear();
  });

  function ask(client: string, url: string, texts: readonly string[]): Promise<Answer> {
    const id = asked++;
    return new Promise((resolve) => {
      waiting.set(id, resolve);
      child.stdin.write(`${JSON.stringify({ id, client, url, texts })}\n`);
      child.stdin.flush();
    });
  }

  async function errorOfCall(client: string, url: string, texts: readonly string[]) {
    const { error } = await ask(client, url, texts);
    if (error === undefined) throw new Error('the call was answered, although it is wrong');
    return error;
  }

  const caseOf = (name: string, isRetrying: boolean): ClientCase => ({
    name,
    isRetrying,
    async vectors(url, texts) {
      const { vectors, error } = await ask(name, url, texts);
      if (vectors === undefined) throw new Error(error);
      return vectors;
    },
    complaint: (url, texts) => errorOfCall(name, url, texts),
  });

  return {
    cases: Object.entries(IS_RETRYING).map(([name, isRetrying]) => caseOf(name, isRetrying)),
    foreignIds: (url, texts) => errorOfCall('langchain-openai, by default', url, texts),
    async close() {
      child.stdin.end();
      await child.exited;
      await reading;
      rmSync(home, { recursive: true, force: true });
    },
  };
}

async function readAnswers(
  stdout: ReadableStream<Uint8Array>,
  onAnswer: (answer: Answer) => void,
): Promise<void> {
  const decoder = new TextDecoder();
  let open = '';
  for await (const chunk of stdout) {
    const lines = (open + decoder.decode(chunk, { stream: true })).split('\n');
    open = lines.pop() ?? '';
    for (const line of lines) onAnswer(JSON.parse(line));
  }
}
