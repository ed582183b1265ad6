import { mkdtempSync, rmSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import packageJson from '../../../package.json';
import { portableClock } from '../../client/cancellation.ts';
import { type CorpusReport, type DealShards, embedCorpus } from '../../corpus/embed-corpus.ts';
import { parseCommandLine } from '../../corpus/flags.ts';
import {
  SCRIPTED_DIMENSION,
  type ScriptedEncodeServer,
  type ScriptedRequest,
  scriptedError,
  scriptedReply,
  startScriptedEncodeServer,
} from '../scripted-encode-server.ts';

/** The program's file, as `run.sh` starts it. */
export const ENTRY = join(import.meta.dir, '../../main.ts');

/** A folder of a test, and jobs in it against a server whose every answer the test may write. */
export interface CorpusStand {
  readonly folder: string;
  readonly server: ScriptedEncodeServer;
  /** What was said to the terminal, of all jobs so far. */
  readonly said: string;
  /** Texts that were sent to `/encode`, of all jobs so far. */
  textsSent(): readonly string[];
  /** Replaces the answers to `/encode`; undefined answers as always. */
  answer: ((request: ScriptedRequest, texts: readonly string[]) => Answer) | undefined;
  /** What `/info` says of the model. */
  model: Record<string, unknown>;
  /** The environment of jobs. */
  environment: Record<string, string>;
  /** Writes a file below the folder. @returns its path. */
  write(name: string, content: string | Uint8Array): Promise<string>;
  path(name: string): string;
  /** Runs a job as the command line says, against the stand's server unless it names another. */
  embed(words: readonly string[], signal?: AbortSignal, deal?: DealShards): Promise<CorpusReport>;
  close(): Promise<void>;
}

type Answer = Response | undefined | Promise<Response | undefined>;

/** Starts one. */
export function startCorpusStand(): CorpusStand {
  const folder = mkdtempSync(join(tmpdir(), 'corpus-'));
  let said = '';
  const sent: string[] = [];
  const server = startScriptedEncodeServer(async (request) => {
    if (request.path === '/info') {
      return Response.json({ model: stand.model, backend: { name: 'scripted' } });
    }
    const texts = request.body.query ?? [];
    sent.push(...texts);
    return (await stand.answer?.(request, texts)) ?? scriptedReply(texts);
  });
  const stand: CorpusStand = {
    folder,
    server,
    answer: undefined,
    environment: {},
    model: { id: 'scripted', dim: SCRIPTED_DIMENSION, heads: ['dense', 'sparse', 'multi_vector'] },
    get said() {
      return said;
    },
    textsSent: () => sent,
    path: (name) => join(folder, name),
    async write(name, content) {
      const path = join(folder, name);
      await Bun.write(path, content);
      return path;
    },
    embed(words, signal = new AbortController().signal, deal) {
      const url = words.includes('--url') ? [] : ['--url', server.url];
      const context = {
        entry: ENTRY,
        environment: stand.environment,
        version: packageJson.version,
        clock: portableClock,
        terminal: { write: (text: string) => (said += text) },
        signal,
      };
      return embedCorpus(parseCommandLine([...words, ...url]).options, context, deal);
    },
    async close() {
      await server.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  return stand;
}

/** JSON Lines of texts with ids. */
export function jsonLines(texts: readonly (string | null)[]): string {
  return texts.map((text, index) => `${JSON.stringify({ id: `law-${index}`, text })}\n`).join('');
}

/** Every file of a folder but what names this moment, by its path. */
export async function bytesOfFolder(folder: string): Promise<Record<string, string>> {
  const names = await readdir(folder, { recursive: true, withFileTypes: true });
  const files: Record<string, string> = {};
  for (const entry of names.filter((name) => name.isFile())) {
    const path = join(entry.parentPath, entry.name);
    const name = path.slice(folder.length + 1);
    files[name] = new Bun.SHA256().update(await readFile(path)).digest('hex');
  }
  return files;
}

/** The objects of all JSON Lines parts, in order. */
export async function rowsOfJsonLines(folder: string): Promise<Record<string, unknown>[]> {
  const names = (await readdir(folder)).filter((name) => /^part-\d+\.jsonl$/.test(name)).sort();
  const texts = await Promise.all(names.map((name) => readFile(join(folder, name), 'utf8')));
  return texts
    .join('')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** A refusal as the server words it. */
export function refusal(status: number, code: string, headers: Record<string, string> = {}) {
  return scriptedError(status, { code, retryable: status === 429 || status >= 500 }, headers);
}
