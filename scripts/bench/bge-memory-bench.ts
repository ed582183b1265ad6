/**
 * What BGE-M3 on a CPU holds in memory, and how soon it is ready: `bun
 * scripts/bench/bge-memory-bench.ts --models-dir DIR`, of a folder that `export-full-shape.ts
 * --folder` left and set-up has packed. The server is started, answers one text as long as it
 * takes with all heads, and then many long ones at once. Linux only.
 */
import { readFileSync } from 'node:fs';
import { count, readFlags, text } from '../flags.ts';
import { textTable } from './report/text-table.ts';
import { MODELS_DIR } from './run-scenario.ts';
import { runScript, verdict } from './run-script.ts';
import { startServerProcess } from './target/server-process.ts';

const FLAGS = {
  'models-dir': text('FOLDER', MODELS_DIR, 'where the model is set up'),
  starts: count(3, [1, 20], 'starts whose least time is told'),
  'budget-mb': count(500, [1, 100_000], 'EMBEDDED_MEMORY_MB for the texts that come at once'),
  texts: count(16, [0, 1000], 'texts at once'),
  tokens: count(2_000, [3, 8_192], 'tokens of each of them'),
  longest: count(8_192, [0, 8_192], 'tokens of the text that comes alone; 0 for none'),
};

/** A word of one token. */
const WORD = ' да';
const SAMPLE_MS = 100;
/** What is asked for. */
const WANTED = { readyMs: 1_500, readyMb: 900, longestMb: 1_800 } as const;

const textOf = (tokens: number): string => WORD.repeat(tokens - 2);

/** Pages that are shared count once for each process, however often it maps them. */
function memoryMb(pid: number, field: 'Pss' | 'Pss_Anon' = 'Pss'): number {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(rollup)?.[1]) * 1.024e-3;
}

async function peakDuring<Result>(pid: number, run: () => Promise<Result>) {
  let [peak, own] = [memoryMb(pid), memoryMb(pid, 'Pss_Anon')];
  const timer = setInterval(() => {
    peak = Math.max(peak, memoryMb(pid));
    own = Math.max(own, memoryMb(pid, 'Pss_Anon'));
  }, SAMPLE_MS);
  const result = await run().finally(() => clearInterval(timer));
  return { peak, own, result };
}

async function encode(url: string, tokens: number, outputs: readonly string[]) {
  const reply = await fetch(`${url}/encode`, {
    method: 'POST',
    // Equal texts in flight would be computed once.
    headers: { 'content-type': 'application/json', 'x-cache': 'bypass' },
    body: JSON.stringify({ query: [textOf(tokens)], outputs }),
    signal: AbortSignal.timeout(180_000),
  });
  const body = (await reply.json()) as { tokens?: number[]; code?: string };
  return reply.ok
    ? `${body.tokens} tokens`
    : `${reply.status} ${body.code ?? JSON.stringify(body)}`;
}

function start(flags: { 'models-dir': string }, settings: Record<string, string> = {}) {
  const model = { BACKEND: 'embedded', MODEL: 'bge-m3', MODELS_DIR: flags['models-dir'] };
  // A text of 8,192 tokens takes a minute on two cores.
  const patience = { REQUEST_TIMEOUT_MS: '170000', LOG_LEVEL: 'warn' };
  return startServerProcess({ environment: { ...model, ...patience, ...settings } });
}

function tally(answers: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const one of answers) counts.set(one, (counts.get(one) ?? 0) + 1);
  return [...counts].map(([answer, times]) => `${times} × ${answer}`).join(', ');
}

async function main(): Promise<void> {
  const flags = readFlags(import.meta.path, FLAGS);
  const mb = (value: number): string => value.toFixed(0);
  const rows: string[][] = [];
  const verdicts: string[] = [];
  let readyMs = Number.POSITIVE_INFINITY;
  for (let turn = 1; turn < flags.starts; turn += 1) {
    const startMs = performance.now();
    const server = await start(flags);
    readyMs = Math.min(readyMs, performance.now() - startMs);
    await server.stop();
  }
  const startMs = performance.now();
  let server = await start(flags);
  readyMs = Math.min(readyMs, performance.now() - startMs);
  const [ready, own] = [memoryMb(server.pid), memoryMb(server.pid, 'Pss_Anon')];
  rows.push([`ready, in ${mb(readyMs)} ms`, mb(ready), mb(own), '']);
  verdicts.push(
    verdict(`ready in ${mb(readyMs)} ms`, `below ${WANTED.readyMs}`, readyMs < WANTED.readyMs),
    verdict(`ready with ${mb(ready)} MB`, `at most ${WANTED.readyMb}`, ready <= WANTED.readyMb),
  );
  try {
    if (flags.longest > 0) {
      const heads = ['dense', 'sparse', 'multi_vector'];
      const { url, pid } = server;
      const found = await peakDuring(pid, () => encode(url, flags.longest, heads));
      rows.push([
        `${flags.longest} tokens, all heads`,
        mb(found.peak),
        mb(found.own),
        found.result,
      ]);
      const isKept = found.peak <= WANTED.longestMb;
      verdicts.push(verdict(`${mb(found.peak)} MB`, `at most ${WANTED.longestMb}`, isKept));
    }
    await server.stop();
    if (flags.texts > 0) {
      server = await start(flags, { EMBEDDED_MEMORY_MB: String(flags['budget-mb']) });
      const { url, pid } = server;
      // What the first text makes the runtime set up is no text's.
      await encode(url, 16, ['dense']);
      const before = memoryMb(pid);
      const texts = Array.from({ length: flags.texts }, () => encode(url, flags.tokens, ['dense']));
      const found = await peakDuring(pid, () => Promise.all(texts));
      const over = Math.max(0, found.peak - before);
      rows.push([
        `${flags.texts} at once of ${flags.tokens} tokens, budget ${flags['budget-mb']} MB`,
        `${mb(found.peak)} (+${mb(over)})`,
        mb(found.own),
        tally(found.result),
      ]);
      const isKept = over <= flags['budget-mb'];
      verdicts.push(verdict(`${mb(over)} MB for texts`, `at most ${flags['budget-mb']}`, isKept));
    }
  } finally {
    await server.stop();
  }
  console.log(textTable(['BGE-M3 on a CPU', 'MB', 'of its own', 'answers'], rows));
  console.log(`\n${verdicts.join('\n')}`);
}

await runScript('bge-memory-bench', main);
