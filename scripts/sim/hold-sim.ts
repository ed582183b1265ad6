/**
 * QUEUE_HOLD_MS against REQUEST_TIMEOUT_MS, on a virtual clock: what clients that send a corpus at
 * once get from the embedded default, and what another caller's query each 100 ms waits meanwhile.
 *
 * usage: bun scripts/sim/hold-sim.ts [--texts 40000] [--tokens 30] [--slow 1]
 *
 * `--slow` makes the machine slower by so many times.
 */
import { parseArgs } from 'node:util';
import { createAdmission } from '../../src/admission/admission.ts';
import { ServerError } from '../../src/base/errors.ts';
import { batcherHarness, uniqueText } from '../../src/testing/batcher-harness.ts';
import { createFakeBackend } from '../../src/testing/fake-backend.ts';
import { MACHINES, serversOf } from '../../src/testing/simulation/callers-load.ts';
import { VirtualClock } from '../../src/testing/virtual-clock.ts';
import { textTable } from '../bench/report/text-table.ts';

const { values } = parseArgs({
  options: {
    texts: { type: 'string', default: '40000' },
    tokens: { type: 'string', default: '30' },
    slow: { type: 'string', default: '1' },
  },
});
const [textCount, tokens, slow] = [values.texts, values.tokens, values.slow].map(Number);

/** How a client sends a corpus. */
interface Habit {
  readonly name: string;
  readonly perCall: number;
  readonly callsAtOnce: number;
  readonly tries: number;
}

const HABITS: readonly Habit[] = [
  { name: 'AI SDK', perCall: 2048, callsAtOnce: 1000, tries: 3 },
  { name: 'gather of 16', perCall: 16, callsAtOnce: 1e5, tries: 3 },
  { name: 'OpenAI, 8 at once', perCall: 256, callsAtOnce: 8, tries: 3 },
  { name: 'LangChain', perCall: 1000, callsAtOnce: 1, tries: 3 },
  { name: 'no second try', perCall: 256, callsAtOnce: 1000, tries: 1 },
];

const QUEUE_TEXTS = 8192;

async function run(habit: Habit, holdMs: number, requestTimeoutMs: number): Promise<string[]> {
  const clock = new VirtualClock();
  const { spare } = MACHINES;
  const batchMs: typeof spare.batchMs = (lengths, padded) => slow * spare.batchMs(lengths, padded);
  const onBatch = serversOf({ ...spare, batchMs }, clock);
  const backend = createFakeBackend({ limits: spare.limits, onBatch });
  const { batcher, submit } = batcherHarness({ backend, clock, holdShare: 0.5 });
  const admission = createAdmission({
    ...{ clock, textCountMax: QUEUE_TEXTS, tokenCountMax: 4_194_304, timeoutMs: requestTimeoutMs },
    backlog: batcher.foreground,
    hold: { holdMs, holdTextsMax: 65_536, holdBytesMax: 33_554_432 },
  });
  const counts = { done: 0, refused: 0, late: 0, lost: 0 };

  /** One try. @returns undefined when it was answered, or after how long to try again. */
  async function attempt(caller: string, count: number): Promise<number | undefined> {
    const tokenCount = count * tokens;
    try {
      const permit = await admission.enter({ textCount: count, tokenCount, caller }, undefined);
      try {
        permit.tokenized(tokenCount);
        await new Promise<void>((resolve, reject) => {
          const texts = Array.from({ length: count }, () => uniqueText(tokens));
          const job = submit(texts, {
            ...{ caller, timeoutMs: requestTimeoutMs },
            onSettled: () => queueMicrotask(() => (job.error ? reject(job.error) : resolve())),
          });
        });
      } finally {
        permit.release();
      }
      return undefined;
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      if (caller === 'job') counts[error.code === 'EMB_QUEUE_FULL' ? 'refused' : 'late']++;
      return Number(error.details.retryAfterMs ?? 2000);
    }
  }

  async function send(): Promise<void> {
    for (let tried = 1; ; tried++) {
      const againMs = await attempt('job', habit.perCall);
      if (againMs === undefined) counts.done++;
      if (againMs === undefined) return;
      if (tried >= habit.tries) break;
      await new Promise<void>((resolve) => clock.schedule(againMs, resolve));
    }
    counts.lost++;
  }

  const waits: number[] = [];
  let endMs = 0;
  const ask = (): void => {
    if (endMs > 0) return;
    const startMs = clock.now();
    void attempt('person', 1).then(() => waits.push(clock.now() - startMs));
    clock.schedule(100, ask);
  };
  let left = Math.floor(textCount / habit.perCall);
  const worker = async (): Promise<void> => {
    while (left-- > 0) await send();
  };
  const workers = Array.from({ length: Math.min(left, habit.callsAtOnce) }, worker);
  void Promise.all(workers).then(() => {
    endMs = clock.now();
  });
  ask();
  await clock.advance(2e6);
  waits.sort((a, b) => a - b);
  const p99 = waits[Math.floor(0.99 * (waits.length - 1))] ?? 0;
  const { done, refused, late, lost } = counts;
  return [
    String(done),
    ...[refused, late, lost].map(String),
    (endMs / 1000).toFixed(0),
    p99.toFixed(0),
  ];
}

const rows: string[][] = [];
for (const habit of HABITS) {
  for (const timeoutMs of [30_000, 60_000]) {
    for (const holdMs of [0, 10_000, 30_000, 60_000, 120_000]) {
      const cells = await run(habit, holdMs, timeoutMs);
      rows.push([habit.name, String(timeoutMs / 1000), String(holdMs / 1000), ...cells]);
    }
  }
}
const headings = [
  'client',
  'timeout s',
  'hold s',
  'answered',
  '429',
  '504',
  'lost',
  's',
  'query p99',
];
console.log(textTable(headings, rows));
