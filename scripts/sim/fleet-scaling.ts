/**
 * Chooses the targets of the chart's autoscaling: an hour of a fleet on a virtual clock, for each
 * pair of targets. Load doubles in a minute, pods take minutes to start, nodes are lost, metrics
 * are as old as a scrape makes them, and replicas follow the rules of Kubernetes' HPA.
 *
 * Work is a fluid: a tick's arrivals wait for what stands before them. Pods share it evenly, as
 * behind a balancer of least requests.
 */
import { join } from 'node:path';
import { type SeededRandom, seededRandom } from '../../src/testing/seeded-random.ts';
import { VirtualClock } from '../../src/testing/virtual-clock.ts';
import { onOff, readFlags, SEED } from '../flags.ts';

const README = join(import.meta.dir, '../deploy/README.md');

/** What one pod does at its limit, in useful tokens a second. All else is a share of it. */
const POD_TOKENS = 50_000;
/** A batch at the backend, in seconds: nobody is answered sooner. */
const BATCH_SECONDS = 0.04;
/** A text that would wait longer is refused: REQUEST_TIMEOUT_MS of callers who wait 2 s. */
const WAIT_SECONDS_MAX = 2;
/** Pods that the planned load keeps at 60 %. */
const PLANNED_PODS = 10;
/**
 * The planned load, and a day on which texts become longer, each token then costing twice what the
 * target of tokens was set for.
 */
const DAYS = [
  { load: 0.1, isDear: false },
  { load: 1, isDear: false },
  { load: 10, isDear: false },
  { load: 1, isDear: true },
] as const;
type Day = (typeof DAYS)[number];
/** From when on tokens cost twice on such a day. */
const DEAR_SECONDS = 600;

const TICK_SECONDS = 0.25;
const HOUR_SECONDS = 3600;
const SCRAPE_SECONDS = 15;
const SYNC_SECONDS = 15;
/** Over which a rate is taken. */
const RATE_SECONDS = 60;
/** Image there, engine read, first batches: and a node of the cloud's, for one pod in three. */
const START_SECONDS = 90;
const NODE_SECONDS = 150;
/** Mean time until a pod's node is lost, as of spot nodes. */
const LOST_SECONDS = 6 * 3600;
/** HPA's tolerance, in which nothing is done. */
const TOLERANCE = 0.1;
const DOWN_POD_SECONDS = 60;

interface Targets {
  /** Seconds; undefined: not asked for. */
  readonly oldestText: number | undefined;
  /** Share of what a pod can do; undefined: not asked for. */
  readonly tokens: number | undefined;
  /** `scaleDown.stabilizationWindowSeconds`. */
  readonly downSeconds: number;
}

interface Outcome {
  readonly p99: number;
  /** Of the hour's tokens. */
  readonly refused: number;
  /** Pod-hours over those of pods that are always full and there at once. */
  readonly cost: number;
}

/** What callers send at a second of the hour, as a share of the level. */
function loadAt(second: number): number {
  // Quiet, double within a minute, ten minutes of it, back within five, and a slow swell.
  const surge = second < 1200 ? 0 : second < 1260 ? (second - 1200) / 60 : 1;
  const after = second < 1860 ? 1 : Math.max(0, 1 - (second - 1860) / 300);
  const swell = second < 2400 ? 0 : 0.4 * Math.sin(((second - 2400) / 1200) * Math.PI);
  return 1 + Math.min(surge, after) + swell;
}

/** One fleet for one hour. */
class Fleet {
  readonly #targets: Targets;
  readonly #level: number;
  readonly #isDear: boolean;
  readonly #min: number;
  readonly #random: SeededRandom;
  readonly #clock = new VirtualClock();
  #ready: number;
  #starting = 0;
  /** What the autoscaler wants: the Deployment's replicas. */
  #replicas: number;
  #queue = 0;
  #podSeconds = 0;
  #offered = 0;
  #refused = 0;
  #needed = 0;
  /** Tokens by the wait of those who sent them, in steps of 10 ms. */
  readonly #waits = new Float64Array(2000);
  readonly #served: number[] = [];
  #scrapedAge = 0;
  #scrapedRate = 0;
  /** Replicas at each sync, newest last: what scaling up and down look back on. */
  readonly #history: { atSeconds: number; replicas: number; wanted: number }[] = [];

  constructor(targets: Targets, day: Day, seed: number) {
    const level = day.load * PLANNED_PODS * 0.6 * POD_TOKENS;
    this.#targets = targets;
    this.#level = level;
    this.#isDear = day.isDear;
    this.#random = seededRandom(seed);
    // As long as the load was quiet, the tokens' target has given the number.
    const share = targets.tokens ?? 0.7;
    this.#min = 2;
    this.#ready = Math.max(this.#min, Math.ceil(level / POD_TOKENS / share));
    this.#replicas = this.#ready;
  }

  async hour(): Promise<Outcome> {
    this.#every(TICK_SECONDS, () => this.#tick());
    this.#every(SCRAPE_SECONDS, () => this.#scrape());
    this.#every(SYNC_SECONDS, () => this.#sync());
    // A node with a fifth of the pods, in the middle of the surge.
    this.#clock.schedule(1500 * 1000, () => this.#lose(Math.ceil(this.#ready / 5)));
    await this.#clock.advance(HOUR_SECONDS * 1000);
    const ideal = this.#needed / POD_TOKENS;
    return {
      p99: this.#quantile(0.99),
      refused: this.#refused / this.#offered,
      cost: this.#podSeconds / ideal,
    };
  }

  get #nowSeconds(): number {
    return this.#clock.now() / 1000;
  }

  #every(seconds: number, action: () => void): void {
    const again = () => {
      action();
      this.#clock.schedule(seconds * 1000, again);
    };
    this.#clock.schedule(seconds * 1000, again);
  }

  #tick(): void {
    const mean = this.#level * loadAt(this.#nowSeconds) * TICK_SECONDS;
    // Callers come in bunches: a tenth up or down, and now and then half as much again.
    const bunch = this.#random.below(40) === 0 ? 1.5 : 0.9 + this.#random.below(200) / 1000;
    const arrived = mean * bunch;
    const capacity = this.#capacity();
    const room = capacity * WAIT_SECONDS_MAX - this.#queue;
    const admitted = Math.max(0, Math.min(arrived, room));
    this.#offered += arrived;
    this.#refused += arrived - admitted;
    this.#needed += (mean * Math.max(1, this.#ready)) / (capacity / POD_TOKENS);
    const busy = Math.min(0.9, mean / TICK_SECONDS / capacity);
    // Who comes while a batch runs waits for its end; the fuller, the more stand before.
    const wait = BATCH_SECONDS * (1.5 + busy / (1 - busy) / 2) + this.#queue / capacity;
    const place = Math.min(this.#waits.length - 1, Math.floor(wait * 100));
    this.#waits[place] = (this.#waits[place] ?? 0) + admitted;
    const done = Math.min(this.#queue + admitted, capacity * TICK_SECONDS);
    this.#queue += admitted - done;
    this.#served.push(done);
    if (this.#served.length > RATE_SECONDS / TICK_SECONDS) this.#served.shift();
    const pods = this.#ready + this.#starting;
    this.#podSeconds += pods * TICK_SECONDS;
    const lossChance = (pods * TICK_SECONDS) / LOST_SECONDS;
    if (this.#random.below(1_000_000) < lossChance * 1_000_000) this.#lose(1);
  }

  /** Tokens a second of the pods that are ready. */
  #capacity(): number {
    const isDear = this.#isDear && this.#nowSeconds > DEAR_SECONDS;
    return (Math.max(1, this.#ready) * POD_TOKENS) / (isDear ? 2 : 1);
  }

  #scrape(): void {
    const capacity = this.#capacity();
    this.#scrapedAge = this.#queue / capacity + BATCH_SECONDS / 2;
    const seconds = this.#served.length * TICK_SECONDS;
    this.#scrapedRate = this.#served.reduce((sum, tokens) => sum + tokens, 0) / seconds;
  }

  /** The Deployment replaces lost pods; what waited in them is sent again by its callers. */
  #lose(count: number): void {
    const lost = Math.min(count, this.#ready - 1);
    this.#ready -= lost;
    this.#start(lost);
  }

  #start(count: number): void {
    for (let pod = 0; pod < count; pod++) {
      this.#starting++;
      const node = this.#random.below(3) === 0 ? NODE_SECONDS : 0;
      this.#clock.schedule((START_SECONDS + node) * 1000, () => {
        this.#starting--;
        // It may not be wanted any more.
        if (this.#ready + this.#starting < this.#replicas) this.#ready++;
      });
    }
  }

  /** The HPA's turn: the largest of what each metric asks for, within what behaviour allows. */
  #sync(): void {
    const now = this.#nowSeconds;
    const wanted = Math.max(this.#min, ...this.#wishes());
    this.#history.push({ atSeconds: now, replicas: this.#replicas, wanted });
    const since = (seconds: number) =>
      this.#history.filter(({ atSeconds }) => atSeconds > now - seconds);
    let next = this.#replicas;
    if (wanted > this.#replicas) {
      next = Math.min(wanted, Math.max(this.#replicas * 2, this.#replicas + 2));
    } else {
      const largest = Math.max(...since(this.#targets.downSeconds).map((one) => one.wanted));
      const before = Math.max(...since(DOWN_POD_SECONDS).map((one) => one.replicas));
      // One pod at a time; a fleet of a hundred would take hours otherwise, so a tenth of it.
      const step = Math.max(1, Math.floor(before / 10));
      if (largest < this.#replicas) next = Math.max(largest, before - step, this.#min);
      next = Math.min(next, this.#replicas);
    }
    const more = next - this.#ready - this.#starting;
    this.#replicas = next;
    if (more > 0) this.#start(more);
    if (more < 0) this.#ready = Math.max(1, this.#ready + more);
  }

  #wishes(): number[] {
    const { oldestText, tokens } = this.#targets;
    const wishes: number[] = [];
    if (oldestText !== undefined) {
      const ratio = this.#scrapedAge / oldestText;
      const isNear = Math.abs(ratio - 1) <= TOLERANCE;
      wishes.push(isNear ? this.#replicas : Math.ceil(ratio * this.#ready));
    }
    if (tokens !== undefined) {
      const need = this.#scrapedRate / (tokens * POD_TOKENS);
      const isNear = Math.abs(need / this.#replicas - 1) <= TOLERANCE;
      wishes.push(isNear ? this.#replicas : Math.ceil(need));
    }
    return wishes;
  }

  #quantile(share: number): number {
    const all = this.#waits.reduce((sum, tokens) => sum + tokens, 0);
    let sum = 0;
    const place = this.#waits.findIndex((tokens) => {
      sum += tokens;
      return sum >= all * share;
    });
    return (place + 1) / 100;
  }
}

const values = readFlags(import.meta.path, {
  write: onOff('puts the tables into scripts/deploy/README.md, between their markers'),
  seed: SEED,
});

/** The worst of three seeds in latency and refusals, their mean in cost. */
async function outcomeOf(targets: Targets, day: Day): Promise<Outcome> {
  const outcomes: Outcome[] = [];
  for (let run = 0; run < 3; run++) {
    outcomes.push(await new Fleet(targets, day, values.seed + run).hour());
  }
  const largest = (read: (one: Outcome) => number) => Math.max(...outcomes.map(read));
  return {
    p99: largest((one) => one.p99),
    refused: largest((one) => one.refused),
    cost: outcomes.reduce((sum, one) => sum + one.cost, 0) / outcomes.length,
  };
}

const none = undefined;
const TRIED: readonly (readonly [string, Targets])[] = [
  ['no scaling up by age', { oldestText: none, tokens: 0.8, downSeconds: 300 }],
  ['', { oldestText: none, tokens: 0.6, downSeconds: 300 }],
  ['', { oldestText: none, tokens: 0.5, downSeconds: 300 }],
  ['', { oldestText: none, tokens: 0.4, downSeconds: 300 }],
  ['age alone', { oldestText: 0.5, tokens: none, downSeconds: 300 }],
  ['both', { oldestText: 2, tokens: 0.6, downSeconds: 300 }],
  ['', { oldestText: 1, tokens: 0.6, downSeconds: 300 }],
  ['', { oldestText: 0.5, tokens: 0.6, downSeconds: 300 }],
  ['', { oldestText: 0.25, tokens: 0.6, downSeconds: 300 }],
  ['', { oldestText: 0.5, tokens: 0.7, downSeconds: 300 }],
  ['', { oldestText: 0.5, tokens: 0.5, downSeconds: 300 }],
  ['', { oldestText: 0.5, tokens: 0.4, downSeconds: 300 }],
  ['slower down', { oldestText: 0.5, tokens: 0.5, downSeconds: 900 }],
  ['faster down', { oldestText: 0.5, tokens: 0.5, downSeconds: 60 }],
];

const DAY_NAMES = DAYS.map(({ load, isDear }) => (isDear ? 'twice as dear' : `× ${load}`));
const lines = [
  `| oldest text | tokens | down after | ${DAY_NAMES.map((day) => `${day}: p99 | refused | cost`).join(' | ')} |`,
  `| --- | --- | --- | ${DAYS.map(() => '--- | --- | ---').join(' | ')} |`,
];
for (const [name, targets] of TRIED) {
  const cells: string[] = [];
  for (const day of DAYS) {
    const { p99, refused, cost } = await outcomeOf(targets, day);
    cells.push(`${p99.toFixed(2)} s | ${(refused * 100).toFixed(2)} % | ${cost.toFixed(2)}`);
  }
  const { oldestText, tokens, downSeconds } = targets;
  const shown = [
    oldestText === undefined ? '—' : `${oldestText} s`,
    tokens === undefined ? '—' : `${tokens * 100} %`,
    `${downSeconds} s`,
  ];
  lines.push(`| ${shown.join(' | ')} | ${cells.join(' | ')} |`);
  console.log(`${name.padEnd(22)} ${lines.at(-1)}`);
}
if (values.write) {
  const text = await Bun.file(README).text();
  const [head = '', , tail = ''] = text.split(/<!-- \/?scaling -->/);
  await Bun.write(
    README,
    `${head}<!-- scaling -->\n\n${lines.join('\n')}\n\n<!-- /scaling -->${tail}`,
  );
}
