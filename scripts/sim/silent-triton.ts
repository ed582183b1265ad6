/**
 * Stops a Triton that has none beside it (SIGSTOP), and lets it go on. A caller comes each 100 ms
 * all the while: when is the first one told at once to come again, and how many are taken on and
 * wait? With `--with`, the server of another checkout takes turns with this one's.
 */
import { resolve } from 'node:path';
import { textTable } from '../bench/report/text-table.ts';
import { startBenchTriton } from '../bench/target/bench-triton.ts';
import { ROOT, startServerProcess } from '../bench/target/server-process.ts';
import { count, readFlags, text } from '../flags.ts';

const flags = readFlags(import.meta.path, {
  rounds: count(2, [1, 100], 'turns of each server'),
  seconds: count(8, [1, 60], 'how long it stands still'),
  with: text('CHECKOUT', '', 'another checkout, set up'),
});

const CALLER_EVERY_MS = 100;
/** Batches before, so that it is known what one takes. */
const BEFORE = 60;
/** A refusal comes at once. */
const AT_ONCE_MS = 100;

const model = { kind: 'timed', launchMs: 20, tokensPerSecond: 20_000 } as const;
const triton = await startBenchTriton(model, { maxBatch: 8 });

/** One turn: the cells of its row. */
async function run(root: string): Promise<string[]> {
  const environment = { TRITON_URL: triton.url, MODEL: 'bge-m3', LOG_LEVEL: 'error' };
  const server = await startServerProcess({ root, environment });
  let askedCount = 0;
  const ask = async (): Promise<{ status: number; ms: number }> => {
    const body = JSON.stringify({ query: `договор ${askedCount++}` });
    const sentMs = performance.now();
    const reply = await fetch(`${server.url}/encode`, { method: 'POST', body });
    await reply.bytes();
    return { status: reply.status, ms: performance.now() - sentMs };
  };
  for (let at = 0; at < BEFORE; at++) await ask();
  triton.signal('SIGSTOP');
  const stoppedMs = performance.now();
  const callers: Promise<{ status: number; ms: number; atMs: number }>[] = [];
  for (let atMs = 0; atMs < flags.seconds * 1000; atMs = performance.now() - stoppedMs) {
    callers.push(ask().then((told) => ({ ...told, atMs })));
    await Bun.sleep(CALLER_EVERY_MS);
  }
  triton.signal('SIGCONT');
  const told = await Promise.all(callers);
  await server.stop();
  const refused = told.filter(({ status, ms }) => status === 503 && ms < AT_ONCE_MS);
  const firstMs = Math.min(...refused.map(({ atMs }) => atMs));
  const waited = told.filter((one) => !refused.includes(one));
  return [
    ...[root === ROOT ? 'this checkout' : root, String(told.length), String(refused.length)],
    ...[firstMs.toFixed(0), String(waited.length)],
    Math.max(...waited.map(({ ms }) => ms)).toFixed(0),
  ];
}

try {
  const roots = flags.with === '' ? [ROOT] : [resolve(flags.with), ROOT];
  const rows: string[][] = [];
  for (let round = 0; round < flags.rounds; round++) {
    for (const root of roots) rows.push(await run(root));
  }
  const headings = ['server', 'callers', 'refused at once', 'first, ms', 'taken on', 'longest, ms'];
  console.log(textTable(headings, rows));
} finally {
  await triton.stop();
}
