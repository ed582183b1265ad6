import { join } from 'node:path';
import { loadReferenceIds } from '../../src/testing/reference-ids.ts';
import type { Arrival, PlannedRequest } from './load/load-plan.ts';
import { planRequests } from './load/plan-requests.ts';
import { type MeasureTimes, measureLoad } from './measure.ts';
import { type LoadPoint, requestsPerSecond, type ScenarioResult } from './report/bench-report.ts';
import { say } from './run-script.ts';
import { labelOf, type Scenario, textGroupsOf } from './scenario.ts';
import { attachTarget, type BenchTarget, startTarget } from './target/bench-target.ts';

/** Where the manifests and model files are. */
export const MODELS_DIR = join(import.meta.dir, '../../models');

/** How scenarios are run. */
export interface ScenarioOptions {
  readonly times: MeasureTimes;
  /** Only for scenarios of a server that runs already. */
  readonly url: string | undefined;
  /** Where profiles go; undefined for none. */
  readonly profilesDir: string | undefined;
}

/**
 * Runs one scenario: starts its server, checks a reply to every request that it will send, finds
 * the best rate with closed loads, then measures latency at shares of it with open ones.
 *
 * @throws WrongReplyError or Error: nothing of the scenario is worth reporting then.
 */
export async function runScenario(
  scenario: Scenario,
  options: ScenarioOptions,
): Promise<ScenarioResult> {
  const { name, about } = scenario;
  const profileDir = options.profilesDir && join(options.profilesDir, name);
  say(`${name}: starting`);
  const target = await targetOf(scenario, { ...options, profileDir });
  try {
    const requests = await plannedRequests(scenario, target, options.times.seed);
    const loads = await applyLoads(scenario, { target, requests, times: options.times });
    return { name, about, loads, profileDir: profileDir ?? null };
  } finally {
    await target.stop();
  }
}

function targetOf(
  { target }: Scenario,
  { url, profileDir }: { url: string | undefined; profileDir: string | undefined },
): Promise<BenchTarget> {
  if (target !== 'url') return startTarget(target, { modelsDir: MODELS_DIR, profileDir });
  if (url === undefined) throw new Error('This scenario needs --url.');
  return attachTarget(url);
}

function plannedRequests(
  { mix, replyKind, name }: Scenario,
  target: BenchTarget,
  seed: number,
): Promise<readonly PlannedRequest[]> {
  const groups = textGroupsOf(mix, seed);
  say(`${name}: checking a reply to each of ${groups.length} requests`);
  const { url, prefix, tokenCountMax, expected, modelId } = target;
  return planRequests(
    groups,
    { url, replyKind, prefix, tokenCountMax },
    { idsOf: loadReferenceIds(modelId), expected },
  );
}

async function applyLoads(
  scenario: Scenario,
  run: { target: BenchTarget; requests: readonly PlannedRequest[]; times: MeasureTimes },
): Promise<readonly LoadPoint[]> {
  const { name, replyKind } = scenario;
  const points: LoadPoint[] = [];
  const apply = async (arrival: Arrival, share: number | null): Promise<void> => {
    const label = labelOf(arrival, share);
    const { target, requests, times } = run;
    const point = await measureLoad(target, requests, { label, arrival, replyKind, times });
    const { p50, p99 } = point.result.latencies.all;
    say(
      `${name}: ${label}: ${requestsPerSecond(point).toFixed(0)} requests/s, ` +
        `p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms`,
    );
    points.push(point);
  };
  for (const connectionCount of scenario.connectionCounts) {
    await apply({ kind: 'closed', connectionCount }, null);
  }
  const best = Math.max(...points.map(requestsPerSecond));
  for (const { kind, share } of scenario.openLoads) {
    await apply({ kind, requestsPerSecond: Math.max(1, best * share) }, share);
  }
  return points;
}
