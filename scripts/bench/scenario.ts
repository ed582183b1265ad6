import { benchTexts, type TextLength } from './bench-texts.ts';
import type { Arrival } from './load/load-plan.ts';
import type { TextGroup } from './load/plan-requests.ts';
import type { ReplyKind } from './load/rows-of-reply.ts';
import type { TargetKind } from './target/bench-target.ts';

/** Requests of one length, and how many texts each of them carries. */
export interface MixPart {
  readonly length: TextLength;
  readonly textsPerRequest: number;
  /**
   * How many different requests of this part there are; each is as likely as any other of the mix.
   */
  readonly requestCount: number;
}

/** One server under several loads. */
export interface Scenario {
  readonly name: string;
  /** One sentence for the report. */
  readonly about: string;
  readonly target: TargetKind;
  readonly replyKind: Exclude<ReplyKind, 'replaced'>;
  readonly mix: readonly MixPart[];
  /** Not part of a run that names none: it is long, or not for every model. */
  readonly onlyWhenNamed?: boolean;
  /** Closed loads, from few connections to many. */
  readonly connectionCounts: readonly number[];
  /** Open loads, as shares of the best rate that the closed loads reached. */
  readonly openLoads: readonly { readonly kind: 'fixed' | 'poisson'; readonly share: number }[];
}

const SHORT: readonly MixPart[] = [{ length: 'short', textsPerRequest: 1, requestCount: 256 }];

/** Queries beside paragraphs and pages, and clients that send batches. */
const MIXED: readonly MixPart[] = [
  { length: 'short', textsPerRequest: 1, requestCount: 140 },
  { length: 'middle', textsPerRequest: 1, requestCount: 30 },
  { length: 'long', textsPerRequest: 1, requestCount: 20 },
  { length: 'short', textsPerRequest: 16, requestCount: 6 },
  { length: 'middle', textsPerRequest: 8, requestCount: 4 },
];

const CORPUS: readonly MixPart[] = [{ length: 'middle', textsPerRequest: 32, requestCount: 24 }];

const OPEN: Scenario['openLoads'] = [
  { kind: 'poisson', share: 0.25 },
  { kind: 'poisson', share: 0.5 },
  { kind: 'poisson', share: 0.7 },
  { kind: 'poisson', share: 0.85 },
  { kind: 'fixed', share: 0.5 },
];

/** Every scenario of `bun run bench`, cheapest backend first. */
export const SCENARIOS: readonly Scenario[] = [
  {
    name: 'trivial-short-json',
    about: 'Search queries in JSON over a model that costs nothing: what the server itself takes.',
    target: 'trivial',
    replyKind: 'json',
    mix: SHORT,
    connectionCounts: [1, 8, 32, 128],
    openLoads: OPEN,
  },
  {
    name: 'trivial-short-msgpack',
    about: 'The same in msgpack.',
    target: 'trivial',
    replyKind: 'msgpack',
    mix: SHORT,
    connectionCounts: [1, 8, 32, 128],
    openLoads: OPEN,
  },
  {
    name: 'trivial-corpus-msgpack',
    about: 'Batches of 32 paragraphs a request, over a model that costs nothing.',
    target: 'trivial',
    replyKind: 'msgpack',
    mix: CORPUS,
    connectionCounts: [1, 8],
    openLoads: [{ kind: 'poisson', share: 0.5 }],
  },
  {
    name: 'timed-mixed-json',
    about: 'Queries, paragraphs, pages and client batches over a model with the time of a GPU.',
    target: 'timed',
    replyKind: 'json',
    mix: MIXED,
    connectionCounts: [1, 32, 128],
    openLoads: OPEN,
  },
  {
    name: 'embedded-short-json',
    about: 'Search queries over the embedded model.',
    target: 'embedded',
    replyKind: 'json',
    mix: SHORT,
    connectionCounts: [1, 4, 16],
    openLoads: OPEN.slice(0, 3),
  },
  {
    name: 'embedded-mixed-msgpack',
    about: 'Queries, paragraphs, pages and client batches over the embedded model.',
    target: 'embedded',
    replyKind: 'msgpack',
    mix: MIXED,
    connectionCounts: [1, 16],
    openLoads: [{ kind: 'poisson', share: 0.5 }],
  },
];

/** What is asked of a server that somebody else has started. */
export const URL_SCENARIOS: readonly Scenario[] = [
  ...(['json', 'msgpack'] as const).map((replyKind) => ({
    name: `url-short-${replyKind}`,
    about: 'Search queries to the given server.',
    target: 'url' as const,
    replyKind,
    mix: SHORT,
    connectionCounts: [1, 8, 32],
    openLoads: OPEN.slice(0, 3),
  })),
  ...(['middle', 'long', 'document'] as const).map((length) => ({
    name: `url-${length}-msgpack`,
    about: 'Texts of one length to the given server.',
    target: 'url' as const,
    replyKind: 'msgpack' as const,
    mix: [{ length, textsPerRequest: 1, requestCount: length === 'document' ? 16 : 64 }],
    connectionCounts: [1, 64],
    openLoads: [{ kind: 'poisson' as const, share: 0.5 }],
    onlyWhenNamed: true,
  })),
  {
    name: 'url-mixed-msgpack',
    about: 'Queries, paragraphs, pages and client batches to the given server.',
    target: 'url',
    replyKind: 'msgpack',
    mix: MIXED,
    connectionCounts: [1, 32, 128],
    openLoads: OPEN.slice(0, 3),
    onlyWhenNamed: true,
  },
];

/** The texts of a mix. The same seed gives the same. */
export function textGroupsOf(mix: readonly MixPart[], seed: number): readonly TextGroup[] {
  return mix.flatMap(({ length, textsPerRequest, requestCount }, part) => {
    const count = textsPerRequest * requestCount;
    const texts = benchTexts({ length, count, seed: seed + part });
    const kind = textsPerRequest === 1 ? length : `${length} × ${textsPerRequest}`;
    return Array.from({ length: requestCount }, (_, index) => ({
      kind,
      texts: texts.slice(index * textsPerRequest, (index + 1) * textsPerRequest),
    }));
  });
}

/** `32 connections`, `poisson at 50 %`: what one load is called in tables. */
export function labelOf(arrival: Arrival, share: number | null): string {
  if (arrival.kind === 'closed') {
    return arrival.connectionCount === 1
      ? '1 connection'
      : `${arrival.connectionCount} connections`;
  }
  const percent = share === null ? '' : ` at ${Math.round(share * 100)} %`;
  return `${arrival.kind}${percent}`;
}
