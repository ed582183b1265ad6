/**
 * Damaged requests, bodies and headers, to the whole application, and damaged replies of Triton to
 * their reader: half of the runs each. Prints each seed that gets a fault of the server for an
 * answer, and the memory on the way; exits with 1 when there was one, or when memory has grown.
 */
import { fuzzReply } from '../../src/testing/fuzz/fuzz-replies.ts';
import { createRequestFuzzer } from '../../src/testing/fuzz/fuzz-requests.ts';
import { count, readFlags, SEED } from '../flags.ts';

/** Faults are printed up to here, then only counted. */
const PRINTED_MAX = 10;

/**
 * Memory that may come on top after the first tenth of the runs, in MB: caches and the collector.
 */
const GROWTH_MB_MAX = 100;

const values = readFlags(import.meta.path, {
  runs: count(
    1_000_000,
    [2, 1_000_000_000],
    'damaged requests, and as many replies of Triton, together',
  ),
  seed: SEED,
});
const pairCount = Math.ceil(values.runs / 2);
const firstSeed = values.seed;
const fuzzRequest = await createRequestFuzzer();
const memoryMb = (): number => {
  Bun.gc(true);
  return Math.round(process.memoryUsage.rss() / 2 ** 20);
};
let faults = 0;
let earlyMb = 0;

function judge(what: string, seed: number, fault: string | undefined): void {
  if (fault === undefined || faults++ >= PRINTED_MAX) return;
  console.log(`${what}, seed ${seed}: ${fault}`);
}

for (let done = 0; done < pairCount; done++) {
  const seed = firstSeed + done;
  judge('request', seed, await fuzzRequest(seed));
  judge('reply', seed, fuzzReply(seed));
  if (done % Math.ceil(pairCount / 10) > 0) continue;
  const nowMb = memoryMb();
  if (done > 0 && earlyMb === 0) earlyMb = nowMb;
  console.log(`${2 * done} cases, ${faults} faults, ${nowMb} MB`);
}
const grownMb = memoryMb() - earlyMb;
console.log(`${2 * pairCount} cases from seed ${firstSeed}: ${faults} faults; ${grownMb} MB grown`);
if (faults > 0 || (earlyMb > 0 && grownMb > GROWTH_MB_MAX)) process.exit(1);
