import { CorpusError } from '../corpus-error.ts';
import { lookAtAll } from '../sources/byte-input.ts';
import type { SourceInput } from '../sources/source.ts';
import type { PinnedInput } from './manifest.ts';
import { chainHash, hashRecord, hexOf } from './plan-shards.ts';
import { createRecordReader, type RecordFields } from './records.ts';

/**
 * Holds all inputs against their pins, and reads again those whose version or name is another.
 *
 * @param options.renamed the error where an input is not that of another name.
 * @throws CorpusError CORPUS_SOURCE_CHANGED that names the first that has changed; of the source.
 */
export async function checkPins(options: {
  inputs: readonly SourceInput[];
  pins: readonly PinnedInput[];
  fields: RecordFields;
  renamed: () => CorpusError;
}): Promise<void> {
  const { inputs, pins, fields, renamed } = options;
  const versions = await lookAtAll(inputs);
  const firstRows = startsOf(pins.map(({ records }) => records));
  for (const [place, input] of inputs.entries()) {
    const pin = pins[place] as PinnedInput;
    const looked = versions[place];
    const isNamed = input.name === pin.name;
    if (isNamed && looked?.version === pin.version) continue;
    // A file that was copied or touched is another one by its time only.
    const isSame =
      (isNamed || looked?.bytes === pin.bytes) &&
      (await isAsPinned({ input, pin, firstRow: firstRows[place] ?? 0, fields }));
    if (!isSame) throw isNamed ? sourceChanged(input.name) : renamed();
  }
}

/**
 * Reads an input from end to end. @returns whether its records are those that were pinned.
 *
 * @param options.firstRow the row of its first record in the whole corpus.
 */
export async function isAsPinned(options: {
  input: SourceInput;
  pin: PinnedInput;
  firstRow: number;
  fields: RecordFields;
}): Promise<boolean> {
  const recordOf = createRecordReader(options.fields);
  let row = options.firstRow;
  let hash = 0n;
  for await (const batch of options.input.read(undefined)) {
    for (const raw of batch) hash = chainHash(hash, hashRecord(recordOf(raw, row++)));
  }
  return hexOf(hash) === options.pin.hash;
}

/** The source is not what the job was made of. */
export function sourceChanged(name: string): CorpusError {
  return new CorpusError(
    'CORPUS_SOURCE_CHANGED',
    `${name} has changed since the job was made. Put it back as it was, or choose another --to.`,
  );
}

/** How many there are before each of some, from how many each has. */
export function startsOf(counts: readonly number[]): number[] {
  let sum = 0;
  return counts.map((count) => {
    sum += count;
    return sum - count;
  });
}
