import { expect, test } from 'bun:test';
import { until } from '../../testing/until.ts';
import type { ByteInput } from './byte-input.ts';
import { ReadAhead } from './read-ahead.ts';

/**
 * Small files are fetched before their turn, and nobody notices but by the time.
 *
 * Faults that were planted to see these fail: no bound on the files ahead; as many ahead as may be,
 * from the first file on; an error thrown before its turn; the size not looked at; a file that has
 * grown cut at the bound; `close` that does not wait, or aborts nothing; what was fetched kept over
 * a jump.
 */

/** Files that answer when they are told to, and write down what happens to them. */
class FarFiles {
  readonly files: ByteInput[];
  readonly opened: number[] = [];
  readonly ended: number[] = [];
  readonly aborted: number[] = [];
  /** Told sizes; the others have that of their content. */
  readonly told = new Map<number, number>();
  readonly contents: string[];
  readonly failing = new Set<number>();
  #waiting: (() => void)[] = [];
  /** Whether each answers at once. */
  answersAtOnce = true;

  constructor(count: number) {
    this.contents = Array.from({ length: count }, (_, place) => `${place},`);
    this.files = this.contents.map((_, place) => ({
      name: `file ${place}`,
      look: async () => ({ bytes: await this.#length(place), version: `${place}` }),
      length: () => this.#length(place),
      open: (from, to, signal) => this.#open(place, { from, to, signal }),
    }));
  }

  answerAll(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const answer of waiting) answer();
  }

  async #length(place: number): Promise<number> {
    return this.told.get(place) ?? Buffer.byteLength(this.contents[place] ?? '');
  }

  async *#open(
    place: number,
    {
      from,
      to,
      signal,
    }: { from: number; to?: number | undefined; signal?: AbortSignal | undefined },
  ) {
    this.opened.push(place);
    try {
      if (!this.answersAtOnce) {
        await new Promise<void>((answer, reject) => {
          this.#waiting.push(answer);
          signal?.addEventListener('abort', () => {
            this.aborted.push(place);
            reject(signal.reason);
          });
        });
      }
      if (this.failing.has(place)) throw new Error(`file ${place} is gone`);
      yield Buffer.from(this.contents[place] ?? '').subarray(from, to);
    } finally {
      // An end takes a moment.
      await Bun.file(import.meta.path).text();
      this.ended.push(place);
    }
  }
}

const signal = new AbortController().signal;

async function textOf(file: ByteInput | undefined, from = 0, to?: number): Promise<string> {
  let text = '';
  for await (const piece of file?.open(from, to) ?? []) text += Buffer.from(piece).toString();
  return text;
}

test('as many are fetched ahead as were read in a row, up to a bound, and each once', async () => {
  const far = new FarFiles(200);
  const { files } = new ReadAhead(far.files, signal);
  let most = 0;
  let text = '';
  for (const [place, file] of files.entries()) {
    text += await textOf(file);
    await until('those ahead are there', () => far.opened.length === far.ended.length);
    const ahead = Math.max(...far.opened) - place;
    expect(ahead).toBeLessThanOrEqual(place + 1);
    most = Math.max(most, ahead);
  }
  expect(text).toBe(far.contents.join(''));
  expect(most).toBe(32);
  expect(far.opened.toSorted((left, right) => left - right)).toEqual([...far.contents.keys()]);
});

test('those ahead are under way at the same time', async () => {
  const far = new FarFiles(20);
  const { files } = new ReadAhead(far.files, signal);
  for (const file of files.slice(0, 8)) await textOf(file);
  await until('those ahead are there', () => far.ended.length === 16);
  far.answersAtOnce = false;
  for (const file of files.slice(8, 10)) await textOf(file);
  await until('four are asked', () => far.opened.length === 20);
  expect(far.ended.length).toBe(16);
  far.answerAll();
  expect(await textOf(files[10])).toBe('10,');
});

test('a file that cannot be read ends nothing before its turn, and is told of then', async () => {
  const far = new FarFiles(20);
  far.failing.add(12);
  const { files } = new ReadAhead(far.files, signal);
  for (const [place, file] of files.slice(0, 12).entries()) {
    expect(await textOf(file)).toBe(`${place},`);
  }
  await until('it was asked', () => far.ended.includes(12));
  await expect(textOf(files[12])).rejects.toThrow('file 12 is gone');
  // Back again: it was asked anew.
  far.failing.clear();
  expect(await textOf(files[12])).toBe('12,');
  expect(await textOf(files[13])).toBe('13,');
});

test('a large file waits for its turn, also one that was small when it was looked at', async () => {
  const far = new FarFiles(12);
  far.contents[5] = 'л'.repeat(1 << 19);
  far.contents[7] = far.contents[5];
  far.told.set(7, 10);
  const { files } = new ReadAhead(far.files, signal);
  for (const file of files.slice(0, 5)) await textOf(file);
  await until('the others are there', () => far.ended.includes(9));
  expect(far.opened).not.toContain(5);
  for (const place of [5, 6, 7]) expect(await textOf(files[place])).toBe(far.contents[place] ?? '');
});

test('it may be read in pieces, and again, from one fetch', async () => {
  const far = new FarFiles(4);
  far.contents[1] = '0123456789';
  const { files } = new ReadAhead(far.files, signal);
  await textOf(files[0]);
  expect(await files[1]?.length()).toBe(10);
  expect(await textOf(files[1], 8)).toBe('89');
  expect(await textOf(files[1], 2, 5)).toBe('234');
  expect(await textOf(files[1], 10)).toBe('');
  expect(far.opened.filter((place) => place === 1)).toEqual([1]);
});

test('what was fetched before a jump is not what is read after it', async () => {
  const far = new FarFiles(40);
  const { files } = new ReadAhead(far.files, signal);
  for (const file of files.slice(0, 4)) await textOf(file);
  await until('those ahead are there', () => far.ended.length === 8);
  await textOf(files[30]);
  await until('one is ahead', () => far.ended.includes(31));
  expect(far.opened.slice(8)).toEqual([30, 31]);
  far.contents[4] = 'new,';
  expect(await textOf(files[4])).toBe('new,');
  far.contents[31] = 'new too,';
  expect(await textOf(files[31])).toBe('new too,');
});

test('an early end leaves nothing open', async () => {
  const far = new FarFiles(40);
  const ahead = new ReadAhead(far.files, signal);
  for (const file of ahead.files.slice(0, 4)) await textOf(file);
  await until('those ahead are there', () => far.ended.length === 8);
  far.answersAtOnce = false;
  for (const file of ahead.files.slice(4, 8)) await textOf(file);
  await until('some are under way', () => far.opened.length === 16);
  await ahead.close();
  expect(far.aborted).toEqual([8, 9, 10, 11, 12, 13, 14, 15]);
  expect(far.ended.length).toBe(far.opened.length);
  await expect(textOf(ahead.files[8])).rejects.toThrow('the source is closed');
  expect(far.opened.length).toBe(16);
});

test('the end of the job is the end of what is under way', async () => {
  const far = new FarFiles(8);
  const job = new AbortController();
  const { files } = new ReadAhead(far.files, job.signal);
  far.answersAtOnce = false;
  const first = textOf(files[0]);
  await until('two are under way', () => far.opened.length === 2);
  job.abort(new Error('stopped'));
  await until('the one ahead has ended', () => far.ended.includes(1));
  far.answerAll();
  await first;
});
