import { expect, test } from 'bun:test';
import { fuzzReply } from './fuzz-replies.ts';
import { createRequestFuzzer } from './fuzz-requests.ts';

/**
 * A sample of what `bun run sim --only fuzz` runs a million of.
 *
 * Faults that were planted in the code by hand, and that this suite caught: a byte count of
 * Triton's that is believed; an output that reaches beyond the body; a text or a list of texts
 * whose type is not looked at; an error of a parser that has no name.
 */

test('damaged requests are answered, or refused by name: never 500', async () => {
  const fuzz = await createRequestFuzzer();
  for (let seed = 1; seed <= 6000; seed++) {
    expect({ seed, fault: await fuzz(seed) }).toEqual({ seed, fault: undefined });
  }
});

test('damaged replies of Triton are refused by name, or are right in shape', () => {
  for (let seed = 1; seed <= 30_000; seed++) {
    const fault = fuzzReply(seed);
    if (fault !== undefined) throw new Error(`seed ${seed}: ${fault}`);
  }
});
