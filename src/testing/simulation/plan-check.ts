import {
  type BucketView,
  type PlanLimits,
  paddedLengthOf,
  planBatch,
  textCostOf,
} from '../../batcher/plan.ts';
import { type ProfileShape, planProfiles, textsOfLength } from '../../model/engine-profiles.ts';
import { headSet } from '../../vectors/output.ts';
import { type SeededRandom, seededRandom } from '../seeded-random.ts';

/**
 * What any plan must keep, checked for random queues and limits: 20,000 in the suite, a million by
 * `bun run sim`.
 */

const DENSE = headSet(['dense']);
const VECTORS = headSet(['dense', 'multi_vector']);

/** @throws Error with the seed and the plan that breaks a rule. */
export function checkPlans(options: { seed: number; planCount: number }): void {
  const random = seededRandom(options.seed);
  for (let count = 0; count < options.planCount; count++) {
    const [buckets, limits] = [randomBuckets(random), randomLimits(random)];
    const mayPass = random.below(2) === 0;
    const broken = brokenRule(buckets, limits, mayPass);
    if (broken === undefined) continue;
    const plan = planBatch(buckets, limits, mayPass);
    const words = JSON.stringify({ buckets, limits, mayPass, plan });
    throw new Error(`seed ${options.seed}, plan ${count}: ${broken}: ${words}`);
  }
}

/** The first rule that the plan for these buckets breaks; undefined when it keeps all of them. */
function brokenRule(
  buckets: readonly BucketView[],
  limits: PlanLimits,
  mayPass: boolean,
): string | undefined {
  const { draws, paddedLength, isPassing } = planBatch(buckets, limits, mayPass);
  const dueMs = Math.min(...buckets.map((one) => one.dueMs));
  const leading = buckets.findIndex((one) => one.dueMs === dueMs);
  const leader = buckets[leading];
  const drawn = draws.map(({ bucketIndex }) => buckets[bucketIndex]);
  const textCount = draws.reduce((sum, draw) => sum + draw.textCount, 0);
  const tokensMax = leader.heads.includes('multi_vector')
    ? Math.min(limits.batchTokensMax, limits.multiVectorTokensMax)
    : limits.batchTokensMax;
  const held = limits.profiles ? textsOfLength(limits.profiles, paddedLength) : textCount;
  const ownCount = draws.reduce((sum, draw, at) => {
    return drawn[at].paddedLength <= leader.paddedLength ? sum + draw.textCount : sum;
  }, 0);
  const cost = textCount * textCostOf(paddedLength, limits);
  const ownCost = ownCount * textCostOf(leader.paddedLength, limits);
  const isLonger = paddedLength > leader.paddedLength;
  const own = planBatch(buckets, limits);
  const ownTexts = own.draws.reduce((sum, draw) => sum + draw.textCount, 0);
  // A place that stands for several texts makes both figures uncertain by as many.
  const slack = 1.2;
  const passedCost = slack * (ownTexts + 2) * textCostOf(own.paddedLength, limits);
  const rules: Readonly<Record<string, boolean>> = {
    'the most urgent text leaves': isPassing !== draws.some((draw) => draw.bucketIndex === leading),
    'it is passed over only where it may': mayPass || !isPassing,
    'who passes costs no more':
      draws[0].bucketIndex === own.draws[0].bucketIndex || cost <= passedCost,
    'the batch is as long as its longest text':
      paddedLength === Math.max(...drawn.map((one) => one.paddedLength)),
    'each bucket is drawn from once': new Set(drawn).size === draws.length,
    'each draw is of texts that are there': draws.every(
      (draw) => draw.textCount > 0 && draw.textCount <= buckets[draw.bucketIndex].textCount,
    ),
    'no heads are mixed': drawn.every(({ heads }) => heads === leader.heads),
    'no batch has too many texts': textCount <= limits.batchTextsMax,
    'no batch has too many tokens': textCount === 1 || textCount * paddedLength <= tokensMax,
    'no batch fits no profile': textCount === 1 || textCount <= held,
    'nobody waits for longer texts':
      mayPass || !isLonger || cost <= 1.5 * ownCost + limits.launchTokens,
  };
  return Object.keys(rules).find((rule) => !rules[rule]);
}

export function randomBuckets(random: SeededRandom): BucketView[] {
  const lengths = new Set<number>();
  for (let count = random.between(1, 12); count > 0; count--) {
    lengths.add(paddedLengthOf(random.between(1, random.pick([40, 600, 8192]))));
  }
  return [...lengths]
    .sort((a, b) => a - b)
    .map((paddedLength) => ({
      paddedLength,
      textCount: random.between(1, random.pick([2, 10, 200])),
      dueMs: random.below(50),
      heads: random.pick([DENSE, DENSE, VECTORS]),
    }));
}

export function randomLimits(random: SeededRandom): PlanLimits {
  return {
    batchTextsMax: random.between(1, 64),
    batchTokensMax: random.pick([16, 512, 4096, 16_384]),
    multiVectorTokensMax: random.pick([16, 1000, 65_536]),
    launchTokens: random.pick([0, 100, 480, 100_000]),
    ...(random.below(2) === 0 ? {} : { lengthTokens: random.pick([512, 6_144, 100_000]) }),
    ...(random.below(2) === 0 ? {} : { profiles: randomProfiles(random) }),
  };
}

function randomProfiles(random: SeededRandom): readonly ProfileShape[] {
  const batchTokensMax = random.pick([512, 4096, 16_384]);
  return planProfiles({ batchTokensMax, tokensMax: 8192, batchTextsMax: random.between(1, 64) });
}
