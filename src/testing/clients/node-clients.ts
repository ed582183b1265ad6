import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { featureExtraction } from '@huggingface/inference';
import { OpenAIEmbeddings } from '@langchain/openai';
import { embedMany } from 'ai';
import { CohereClientV2 } from 'cohere-ai';
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import type { ClientCase } from './client-case.ts';
import { errorOf } from './error-of.ts';

const MODEL = 'bge-m3';
/** Nobody checks it, but every one of these clients wants one. */
const apiKey = 'unused';

function openai(url: string): OpenAI {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey });
}

function langchain(url: string): OpenAIEmbeddings {
  return new OpenAIEmbeddings({ model: MODEL, apiKey, configuration: { baseURL: `${url}/v1` } });
}

function aiSdk(url: string, texts: readonly string[]) {
  const provider = createOpenAICompatible({ name: 'bge', baseURL: `${url}/v1` });
  return embedMany({ model: provider.embeddingModel(MODEL), values: [...texts] });
}

/** It asks for base64 by itself, and decodes it. */
const OPENAI_NODE: ClientCase = {
  name: 'openai (Node)',
  isRetrying: true,
  async vectors(url, texts) {
    const { data } = await openai(url).embeddings.create({ model: MODEL, input: [...texts] });
    return data.map(({ embedding }) => embedding);
  },
  complaint: (url, texts) =>
    errorOf(openai(url).embeddings.create({ model: MODEL, input: [...texts] })),
};

const LANGCHAIN_NODE: ClientCase = {
  name: '@langchain/openai',
  isRetrying: true,
  vectors: (url, texts) => langchain(url).embedDocuments([...texts]),
  complaint: (url, texts) => errorOf(langchain(url).embedDocuments([...texts])),
};

const AI_SDK: ClientCase = {
  name: 'AI SDK (@ai-sdk/openai-compatible)',
  isRetrying: true,
  vectors: async (url, texts) => (await aiSdk(url, texts)).embeddings,
  complaint: (url, texts) => errorOf(aiSdk(url, texts)),
};

function ollama(url: string, texts: readonly string[]) {
  return new Ollama({ host: url }).embed({ model: MODEL, input: [...texts] });
}

const OLLAMA_NODE: ClientCase = {
  name: 'ollama (Node)',
  isRetrying: false,
  vectors: async (url, texts) => (await ollama(url, texts)).embeddings,
  complaint: (url, texts) => errorOf(ollama(url, texts)),
};

function cohere(url: string, texts: readonly string[]) {
  const client = new CohereClientV2({ token: apiKey, environment: url });
  return client.embed({
    model: MODEL,
    texts: [...texts],
    inputType: 'search_query',
    embeddingTypes: ['float'],
  });
}

const COHERE_NODE: ClientCase = {
  name: 'cohere-ai (Node)',
  isRetrying: true,
  vectors: async (url, texts) => (await cohere(url, texts)).embeddings.float ?? [],
  complaint: (url, texts) => errorOf(cohere(url, texts)),
};

/** Each text a call: its type of inputs is one string. */
async function huggingface(url: string, texts: readonly string[]): Promise<number[][]> {
  const options = { retry_on_error: false };
  // One text answers a list of one row.
  const rows = texts.map((inputs) => featureExtraction({ endpointUrl: url, inputs }, options));
  return (await Promise.all(rows)).map(([row]) => row as number[]);
}

const HUGGINGFACE_NODE: ClientCase = {
  name: '@huggingface/inference',
  isRetrying: false,
  vectors: huggingface,
  complaint: (url, texts) => errorOf(huggingface(url, texts)),
};

/** As the README shows it. */
const CURL: ClientCase = {
  name: 'curl',
  isRetrying: false,
  async vectors(url, texts) {
    const reply = JSON.parse(await curl(`${url}/encode`, { query: texts }));
    return reply.embeddings;
  },
  complaint: (url, texts) => curl(`${url}/encode`, { query: texts }),
};

async function curl(url: string, body: object): Promise<string> {
  const child = Bun.spawn([
    ...['curl', '--silent', '--show-error', url, '-H', 'Content-Type: application/json'],
    ...['-d', JSON.stringify(body)],
  ]);
  return new Response(child.stdout).text();
}

/** Clients that run in this process, and curl. */
export const NODE_CLIENTS: readonly ClientCase[] = [
  OPENAI_NODE,
  LANGCHAIN_NODE,
  AI_SDK,
  OLLAMA_NODE,
  COHERE_NODE,
  HUGGINGFACE_NODE,
  CURL,
];
