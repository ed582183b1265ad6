import { expect, test } from 'bun:test';
import type { ByteInput } from './byte-input.ts';
import { documentsInput } from './formats.ts';
import { separatedInput } from './separated-input.ts';
import type { RawRecord, SourceInput } from './source.ts';

/**
 * Memory has a bound whatever a file holds.
 *
 * Faults that were planted to see these fail: the bounds left out.
 */

/** A file that has no end, and counts the pieces that were taken of it. */
function endless(start: string): { input: ByteInput; taken: () => number } {
  let taken = 0;
  const input: ByteInput = {
    name: 'endless',
    look: () => Promise.resolve({ bytes: 0, version: '' }),
    length: () => Promise.resolve(0),
    async *open() {
      yield Buffer.from(start);
      // Far over the bound; a reader without one comes to its end.
      for (; taken < 10_000; taken++) yield Buffer.from('иск '.repeat(64));
    },
  };
  return { input, taken: () => taken };
}

async function recordsOf(input: SourceInput): Promise<readonly RawRecord[]> {
  const all: RawRecord[] = [];
  for await (const records of input.read(undefined)) all.push(...records);
  return all;
}

const compression = undefined;
const bytesMax = 4096;

test('a document that is too large costs itself, and is not read to its end', async () => {
  const { input, taken } = endless('');
  const short: ByteInput = { ...endless('').input, open: () => arrayOf('суд'), name: 'short' };
  const files = [input, short].map((bytes) => ({ bytes, compression }) as const);
  expect(await recordsOf(documentsInput(files, bytesMax))).toEqual([
    { position: 0, fields: undefined, fault: 'endless has more than 4096 bytes' },
    { position: 1, fields: { text: 'суд', path: 'short' } },
  ]);
  expect(taken()).toBeLessThan(20);
});

test('a quote that is never closed ends the reading, and not the memory', async () => {
  const { input, taken } = endless('id,text\n1,"суд ');
  const options = { compression, delimiter: ',', bytesMax } as const;
  await expect(recordsOf(separatedInput(input, options))).rejects.toMatchObject({
    code: 'CORPUS_SOURCE_INVALID',
    message: expect.stringMatching(/endless cannot be read: .*Max Record Size/),
  });
  expect(taken()).toBeLessThan(1000);
});

async function* arrayOf(text: string): AsyncGenerator<Uint8Array, void, undefined> {
  yield Buffer.from(text);
}
