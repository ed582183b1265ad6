import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import zlib from 'node:zlib';
import { helpText } from '../../corpus/flags.ts';
import { createTokenIds } from '../../tokenizer/xlmr/unigram-search.ts';
import { legalProse } from '../legal-prose.ts';
import { openRealTokenizers } from '../real-tokenizer.ts';
import { type CorpusStand, ENTRY, startCorpusStand } from './corpus-stand.ts';
import { readersPython } from './readers-venv.ts';

/** The commands of the README and of `--help`, as they are written but for `./run.sh`. */

setDefaultTimeout(120_000);

const README = readFileSync(join(import.meta.dir, '../../../README.md'), 'utf8');

let stand: CorpusStand;

beforeAll(async () => {
  stand = startCorpusStand();
  const texts = legalProse({ language: 'russian', lengthMin: 60, count: 40, seed: 4 });
  const records = texts.map((body, id) => ({
    id: `law-${id}`,
    body,
    court: 'ВС',
    year: 1990 + id,
  }));
  await stand.write('laws.jsonl', records.map((record) => JSON.stringify(record)).join('\n'));
  const csv = ['body,court,year', ...records.map(({ body, year }) => `"${body}",ВС,${year}`)];
  await stand.write('archive/laws.csv.gz', zlib.gzipSync(csv.join('\n')));
});

afterAll(() => stand.close());

/** Lines of code that call `embed`, those that need another machine left out. */
function examplesOf(text: string): string[] {
  const lines = text.split('\n').map((line) => line.trim());
  return lines.filter((line) => line.startsWith('./run.sh embed ') && !line.includes('nats://'));
}

async function run(example: string): Promise<{ status: number; out: string; said: string }> {
  const command = example
    .replace('./run.sh', `"${process.execPath}" "${ENTRY}"`)
    .replace('http://localhost:8080', stand.server.url);
  const child = Bun.spawn(['bash', '-c', command], {
    cwd: stand.folder,
    env: { PATH: process.env.PATH ?? '', BACKEND: 'embedded' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [out, said] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { status: await child.exited, out, said };
}

async function python(code: string): Promise<string> {
  const child = Bun.spawn([readersPython(), '-c', code], { cwd: stand.folder, stdout: 'pipe' });
  return new Response(child.stdout).text();
}

test('those of the README', async () => {
  const section = README.slice(README.indexOf('## A corpus'), README.indexOf('### Many machines'));
  const examples = examplesOf(section);
  expect(examples.length).toBe(4);
  for (const example of examples) {
    const { status, said, out } = await run(example);
    expect(status, said).toBe(0);
    if (example.includes('--plan')) expect(out).toContain('texts   40,');
  }
  const code = /```ts\n([^`]+)```/.exec(section)?.[1] ?? '';
  const script = await stand.write(
    'example.ts',
    code.replaceAll("'./src/", `'${join(ENTRY, '..')}/`),
  );
  const typescript = Bun.spawn([process.execPath, script], {
    cwd: stand.folder,
    env: { PATH: process.env.PATH ?? '', BACKEND: 'embedded' },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  expect(await new Response(typescript.stdout).text()).toBe('40 0\n');
  const [vectors = '', chunks = ''] = [...section.matchAll(/```python\n([^`]+)```/g)].map(
    ([, text]) => text,
  );
  expect(await python(`${vectors}\nprint(vectors.shape)`)).toBe('(40, 5)\n');
  const printed = (await python(chunks)).trimEnd().split('\n');
  expect(printed.length).toBeGreaterThan(39);
  expect(printed[0]).toStartWith('law-0 0 ');
});

test('rows that failed are told with the readers that know their null, and can be left out', async () => {
  const laws = ['первый', 5, 'третий'].map((body, id) => JSON.stringify({ id: `${id}`, body }));
  await stand.write('flawed/laws.jsonl', laws.join('\n'));
  const inFolder = (command: string) => run(`cd flawed && ${command}`);
  const embed = './run.sh embed laws.jsonl --text body --id id --to';
  const { status, said } = await inFolder(`${embed} vectors`);
  expect([status, said.includes('pyarrow 26')]).toEqual([3, true]);
  const jsonl = await inFolder(`${embed} lines --format jsonl`);
  expect([jsonl.status, jsonl.said.includes('pyarrow')]).toEqual([3, false]);
  const python = /```python\n([^`]+)```/.exec(README.slice(README.indexOf('## A corpus')))?.[1];
  const check =
    'import pyarrow.parquet\n' +
    'for path in ("vectors/part-000000.parquet", "vectors-whole.parquet"):\n' +
    '  print(pyarrow.parquet.read_table(path)["embedding"].null_count)';
  const child = Bun.spawn([readersPython(), '-c', `${python}\n${check}`], {
    cwd: stand.path('flawed'),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  expect(await new Response(child.stdout).text()).toBe('1\n0\n');
});

test('those of the help', async () => {
  const examples = examplesOf(helpText());
  expect(examples.length).toBe(4);
  for (const example of examples) {
    // The README has made this one already, with the same bytes: then nothing is left to do.
    const { status, said } = await run(example);
    expect(status, said).toBe(0);
  }
  expect(await readdir(stand.path('vectors-url'))).toContain('part-000000.parquet');
});

test('settings of a server for others do not stand in the way of the one of the job', async () => {
  const { status, said } = await run(
    'API_KEYS=key TLS_CERT=/nowhere HTTP_PROXY=http://127.0.0.1:1 SERVER_PROCESSES=2 ' +
      './run.sh embed laws.jsonl --to own --text body',
  );
  expect(status, said).toBe(0);
});

test('a plan counts the tokens that the job then counts', async () => {
  const { out } = await run('./run.sh embed laws.jsonl --plan --text body');
  const planned = Number(/^tokens +(\d+)/m.exec(out)?.[1]);
  const { said } = await run('./run.sh embed laws.jsonl --to counted --text body');
  const counted = Number(/texts and (\d+) tokens/.exec(said)?.[1]);
  expect(planned).toBe(counted);
});

test('a plan from a sample is within its margin, and that within 3 %', async () => {
  // Lengths that differ a hundredfold, in two languages.
  const texts = Array.from({ length: 40_000 }, (_, index) => {
    const words = index % 3 === 0 ? 'срок исковой давности ' : 'the lessee shall pay rent, ';
    return words.repeat(1 + ((index * 7919) % 101));
  });
  await stand.write('many.jsonl', texts.map((text) => JSON.stringify({ text })).join('\n'));
  const { out } = await run('./run.sh embed many.jsonl --plan');
  const [, tokens = 0, margin = 0] = /^tokens +(\d+) \(± (\d+)/m.exec(out)?.map(Number) ?? [];
  const { tokenizer } = await openRealTokenizers();
  const options = { tokenCountMax: 512, specialTokens: true, truncationSide: 'right' } as const;
  let counted = 0;
  const ids = createTokenIds();
  for (const text of texts) {
    ids.length = 0;
    counted += tokenizer.encode(`passage: ${text}`, { ...options, out: ids }).fullCount;
  }
  expect(Math.abs(tokens - counted)).toBeLessThan(margin);
  expect(margin / counted).toBeLessThan(0.03);
});
