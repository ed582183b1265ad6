import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Fidelity } from '../../../model/fidelity.ts';
import { sha256OfFile, writeFileAtomic } from '../../../model/files.ts';
import type { AttentionPrecision } from '../graph/attention.ts';
import type { GraphSums } from '../write-graphs.ts';
import type { BuiltEngine } from './build-engine.ts';

/** An engine that was built, and what the gate said of it, if it was asked. */
export interface BuiltStep {
  /** What it was built for: its profiles, the image's content and the graph. */
  readonly scope: string;
  readonly built: BuiltEngine;
  /** sha256 of the plan. */
  readonly plan: string;
  readonly verdict?: Verdict;
}

/** What the gate found, and the text for the check at boot. */
export interface Verdict {
  readonly gate: Fidelity;
  readonly selfCheck: { readonly ids: readonly number[]; readonly dense: string };
}

interface Steps {
  readonly job: string;
  graphs?: GraphSums;
  readonly builds: Partial<Record<AttentionPrecision, BuiltStep>>;
}

/**
 * What an export has finished, so that the next one goes on where it was interrupted. Each step is
 * told once its files are whole; all of it goes when an engine is in its place.
 */
export interface FinishedSteps {
  readonly graphs: GraphSums | undefined;
  addGraphs(graphs: GraphSums): Promise<void>;
  /** Where an engine of this precision is built: a repository for Triton. */
  candidateFolder(attention: AttentionPrecision): string;
  /** The step of an engine for this scope whose plan is whole, or that the gate has refused. */
  built(options: {
    attention: AttentionPrecision;
    scope: string;
    plan: string;
  }): Promise<BuiltStep | undefined>;
  addBuilt(attention: AttentionPrecision, step: BuiltStep): Promise<void>;
  /** Its engine will not do: it is built anew, should anybody ask. */
  forget(attention: AttentionPrecision): Promise<void>;
  /** Removes what no step speaks of: an engine that was not built to its end. */
  tidy(): Promise<void>;
  /** Removes everything. */
  close(): Promise<void>;
}

/**
 * @param folder of the export's logs and caches.
 * @param job what the steps hold for; those of another job are dropped.
 */
export async function openSteps(
  folder: string,
  job: Readonly<Record<string, unknown>>,
): Promise<FinishedSteps> {
  const path = join(folder, 'steps.json');
  const root = join(folder, 'candidate');
  const id = createHash('sha256').update(JSON.stringify(job)).digest('hex');
  const found: Steps | undefined = await readFile(path, 'utf8')
    .then((text) => JSON.parse(text))
    .catch(() => undefined);
  const steps: Steps = found?.job === id ? found : { job: id, builds: {} };

  async function save(): Promise<void> {
    await mkdir(folder, { recursive: true });
    const text = `${JSON.stringify(steps, null, 2)}\n`;
    await writeFileAtomic(path, new TextEncoder().encode(text));
  }

  async function tidy(): Promise<void> {
    const names = await readdir(root).catch(() => [] as string[]);
    const isKept = (name: string): boolean => {
      const step = steps.builds[name as AttentionPrecision];
      return step !== undefined && step.verdict?.gate.passed !== false;
    };
    const stray = names.filter((name) => !isKept(name));
    if (stray.length === names.length) await rm(root, { recursive: true, force: true });
    for (const name of stray) await rm(join(root, name), { recursive: true, force: true });
  }

  await tidy();
  return {
    graphs: steps.graphs,
    async addGraphs(graphs) {
      steps.graphs = graphs;
      await save();
    },
    candidateFolder: (attention) => join(root, attention),
    async built({ attention, scope, plan }) {
      const step = steps.builds[attention];
      if (step?.scope !== scope) return undefined;
      if (step.verdict?.gate.passed === false) return step;
      const sum = await sha256OfFile(plan).catch(() => undefined);
      return sum === step.plan ? step : undefined;
    },
    async addBuilt(attention, step) {
      steps.builds[attention] = step;
      await save();
    },
    async forget(attention) {
      delete steps.builds[attention];
      await save();
    },
    tidy,
    async close() {
      await rm(root, { recursive: true, force: true });
      await rm(path, { force: true });
    },
  };
}
