import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startTriton } from '../../../src/testing/triton/start-triton.ts';
import type { TritonStatistics } from '../../../src/testing/triton/triton-statistics.ts';
import { writeRepository } from '../../../src/testing/triton/write-repository.ts';
import { setUpTritonVenv } from '../../ci/triton-setup.ts';

/** Name of the model inside Triton, as the manifest of BGE-M3 has it. */
export const TRITON_MODEL = 'bge_model';

/** Values of a row of BGE-M3. */
export const TRITON_DIMENSION = 1024;

/** A real Triton for a bench or a simulation. */
export interface BenchTriton {
  readonly url: string;
  readonly pid: number;
  statistics(): Promise<TritonStatistics>;
  /** SIGSTOP stalls it, SIGCONT lets it go on. */
  signal(name: NodeJS.Signals): void;
  stop(): Promise<void>;
}

/**
 * What the model costs. `trivial`: nothing to speak of. `timed`: a launch and a time a token, like
 * a GPU.
 */
export type BenchTritonModel =
  | { readonly kind: 'trivial' }
  | {
      readonly kind: 'timed';
      readonly launchMs: number;
      readonly tokensPerSecond: number;
      readonly lengthTokens?: number;
      readonly profiles?: string;
    };

/**
 * Starts a real Triton with a fake engine, set up first where it is not.
 *
 * @param options.joins Triton joins single texts of equal shape itself; for a front that sends them
 * one by one.
 * @param options.hasMultiVectors of a trivial model.
 */
export async function startBenchTriton(
  model: BenchTritonModel,
  options: { maxBatch: number; joins?: boolean; hasMultiVectors?: boolean },
): Promise<BenchTriton> {
  setUpTritonVenv();
  const dir = mkdtempSync(join(tmpdir(), 'bench-triton-'));
  const remove = (): void => rmSync(dir, { recursive: true, force: true });
  try {
    writeRepository({
      dir,
      models: [
        {
          name: TRITON_MODEL,
          kind: model.kind,
          datatype: 'INT64',
          dimension: TRITON_DIMENSION,
          maxBatch: options.maxBatch,
          ...(model.kind === 'timed' ? { timing: model } : {}),
          ...('profiles' in model ? { profiles: model.profiles } : {}),
          ...(options.joins === true ? { queueDelayMicroseconds: 0 } : {}),
          ...(options.hasMultiVectors === true ? { multiVectorOutput: 'colbert_vecs' } : {}),
        },
      ],
    });
    const triton = await startTriton({ repository: dir });
    return {
      url: triton.url,
      pid: triton.pid,
      statistics: () => triton.statistics(TRITON_MODEL),
      signal: triton.signal,
      async stop() {
        await triton.stop();
        remove();
      },
    };
  } catch (error) {
    remove();
    throw error;
  }
}
