import { join } from 'node:path';
import type { Log } from '../base/log.ts';
import { COSINE_MIN, cosineOf } from './fidelity.ts';
import type { ModelManifest } from './manifest.ts';
import { decodeSelfCheckRow, readPlanRecord } from './plan-record.ts';

/** One text, and what the exported model answers to it. */
export interface SelfCheck {
  /** Special tokens included. */
  readonly ids: Int32Array;
  /**
   * @param row `[dimension]`, the engine's dense row of that text; borrowed. @returns what is
   * wrong, with the figures, or nothing.
   */
  faultOf(row: Float32Array): string | undefined;
}

/**
 * Reads the self-check out of the record beside the plan, the same gate as after the export on one
 * text: an engine may have been damaged, replaced, or moved to another GPU since.
 *
 * @returns undefined where no record is within reach; what one lacks is logged.
 */
export async function readSelfCheck(options: {
  modelsDir: string;
  manifest: ModelManifest;
  log: Log;
}): Promise<SelfCheck | undefined> {
  const { modelsDir, manifest, log } = options;
  if (manifest.tritonModel === undefined) return undefined;
  const plan = join(modelsDir, manifest.tritonModel, '1', 'model.plan');
  const record = await readPlanRecord(plan);
  if (record === undefined) return undefined;
  const ids = Int32Array.from(record.selfCheck?.ids ?? []);
  const wanted = decodeSelfCheckRow(record.selfCheck?.dense ?? '');
  const isUsable = record.model === manifest.id && ids.length > 0;
  if (!isUsable || wanted.length !== manifest.dimension) {
    log.warn('self-check-unusable', { plan, model: record.model, values: wanted.length });
    return undefined;
  }
  return { ids, faultOf: (row) => faultOf(row, wanted) };
}

function faultOf(row: Float32Array, wanted: Float32Array): string | undefined {
  const cosine = cosineOf(row, wanted);
  // Written so that NaN is a fault.
  if (cosine >= COSINE_MIN) return undefined;
  return (
    `the self-check failed: its row has a cosine of ${cosine.toFixed(6)} to that of the exported ` +
    `model, at least ${COSINE_MIN} is wanted (run ./run.sh export, or set SELF_CHECK=off).`
  );
}
