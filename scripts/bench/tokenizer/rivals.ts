import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Tokenizer } from '@anush008/tokenizers';
import { PreTrainedTokenizer } from '@huggingface/transformers';
import { openCompiledTokenizer } from '../../../src/tokenizer/compiler/tokenizer-file.ts';
import {
  type CompiledTokenizer,
  createCompiledTokenizer,
} from '../../../src/tokenizer/xlmr/compiled-tokenizer.ts';
import { createTokenIds } from '../../../src/tokenizer/xlmr/unigram-search.ts';
import { createSentencePieceModel } from './sentencepiece-model.ts';

/** A tokenizer that is timed. */
export interface Rival {
  readonly name: string;
  /** The texts of all calls of `run` from now on. */
  use(texts: readonly string[]): Promise<void>;
  /** Encodes all texts over and over. @returns how often a second. */
  run(milliseconds: number): Promise<number>;
  close(): Promise<void>;
}

/** Ours, with or without its memory of words. */
export async function createOurs(folder: string, remembersWords: boolean): Promise<Rival> {
  const { tables } = await openCompiledTokenizer({
    tokenizerPath: join(folder, 'tokenizer.json'),
    compiledPath: join(folder, 'tokenizer.compiled'),
  });
  const tokenizer = createCompiledTokenizer(tables, { remembersWords });
  const name = remembersWords ? 'this server' : 'this server, no memory of words';
  return inProcess(name, (texts) => encodeAll(tokenizer, texts));
}

const out = createTokenIds();

function encodeAll(tokenizer: CompiledTokenizer, texts: readonly string[]): void {
  const options = { tokenCountMax: 1 << 30, truncationSide: 'right', specialTokens: true } as const;
  for (const text of texts) {
    out.length = 0;
    tokenizer.encode(text, { ...options, out });
  }
}

/** `tokenizers` in Rust: one call for all texts, so that the way to its thread costs it little. */
export function createRust(folder: string): Rival {
  const tokenizer = Tokenizer.fromFile(join(folder, 'tokenizer.json'));
  return inProcess('tokenizers (Rust)', async (texts) => {
    await tokenizer.encodeBatch([...texts]);
  });
}

/** transformers.js. */
export async function createTransformers(folder: string): Promise<Rival> {
  const json = await Bun.file(join(folder, 'tokenizer.json')).json();
  const tokenizer = new PreTrainedTokenizer(json, {});
  return inProcess('transformers.js', (texts) => {
    for (const text of texts) tokenizer.encode(text);
  });
}

function inProcess(
  name: string,
  encode: (texts: readonly string[]) => void | Promise<void>,
): Rival {
  let texts: readonly string[] = [];
  return {
    name,
    async use(newTexts) {
      texts = newTexts;
    },
    async run(milliseconds) {
      const started = performance.now();
      let rounds = 0;
      do {
        await encode(texts);
        rounds++;
      } while (performance.now() - started < milliseconds);
      return (rounds * 1000) / (performance.now() - started);
    },
    async close() {},
  };
}

/**
 * SentencePiece in C++ through its Python wheel, in a process of its own.
 *
 * @param python an interpreter that has `sentencepiece`.
 */
export async function createSentencePiece(folder: string, python: string): Promise<Rival> {
  const work = await mkdtemp(join(tmpdir(), 'sentencepiece-'));
  const modelPath = join(work, 'spm.model');
  const json = await Bun.file(join(folder, 'tokenizer.json')).json();
  await Bun.write(modelPath, createSentencePieceModel(json));
  const script = join(import.meta.dir, 'sentencepiece_loop.py');
  const child = Bun.spawn([python, script, modelPath], { stdin: 'pipe', stdout: 'pipe' });
  const lines = readLines(child.stdout);
  const ask = async (request: unknown): Promise<Record<string, number>> => {
    child.stdin.write(`${JSON.stringify(request)}\n`);
    await child.stdin.flush();
    const { value, done } = await lines.next();
    if (done) throw new Error(`${python} has ended: does it have sentencepiece?`);
    return JSON.parse(value);
  };
  return {
    name: 'SentencePiece (C++)',
    async use(texts) {
      await ask({ texts });
    },
    async run(milliseconds) {
      const { rounds, seconds } = await ask({ seconds: milliseconds / 1000 });
      return rounds / seconds;
    },
    async close() {
      await child.stdin.end();
      await child.exited;
      await rm(work, { recursive: true });
    },
  };
}

async function* readLines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of stream) {
    rest += decoder.decode(chunk, { stream: true });
    for (let end = rest.indexOf('\n'); end !== -1; end = rest.indexOf('\n')) {
      yield rest.slice(0, end);
      rest = rest.slice(end + 1);
    }
  }
}
