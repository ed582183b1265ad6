import { readFile } from 'node:fs/promises';
import type { Fidelity } from './fidelity.ts';

/**
 * What stands beside an engine's plan: where it comes from, what it runs on, and how well it did.
 */
export interface PlanRecord {
  readonly format: typeof RECORD_FORMAT;
  /** Id of the model's manifest. */
  readonly model: string;
  readonly madeAt: string;
  readonly source: {
    /** The hub's address, or the local folder. */
    readonly from: string;
    readonly repository: string;
    readonly revision: string;
    /** sha256 of each file, by its path in the repository. */
    readonly files: Readonly<Record<string, string>>;
  };
  /** sha256 of the graphs written, and of their weights. */
  readonly graphs: {
    readonly exact: { readonly model: string; readonly data: string };
    readonly half: { readonly model: string; readonly data: string };
  };
  readonly engine: {
    readonly tensorrt: string;
    /** The GPU's name as its driver gives it. */
    readonly gpu: string;
    readonly image: string;
    /** Docker's id of the image's content. */
    readonly imageId: string;
    readonly batchMax: number;
    readonly tokensMax: number;
    readonly bytes: number;
    readonly sha256: string;
    readonly buildSeconds: number;
  };
  readonly gate: Fidelity;
  /** One text and the dense row that the exported model gives it, for the check at boot. */
  readonly selfCheck: {
    readonly ids: readonly number[];
    /** Float32, little endian, base64. */
    readonly dense: string;
  };
}

/** What an engine must have been built for, to be of use here. */
export interface PlanUse {
  readonly gpu: string;
  readonly image: string;
  /** Undefined when Docker does not have the image yet. */
  readonly imageId?: string | undefined;
  readonly batchMax?: number;
  readonly tokensMax?: number;
  /** Length of the plan on disk. */
  readonly bytes?: number;
}

/** Another number for every change that an older reader would misread. */
export const RECORD_FORMAT = 1;

/** Where the record of a plan lies. */
export function planRecordPath(planPath: string): string {
  return `${planPath}.json`;
}

/** The record beside a plan; undefined when there is none, or one of another format. */
export async function readPlanRecord(planPath: string): Promise<PlanRecord | undefined> {
  try {
    const record = JSON.parse(await readFile(planRecordPath(planPath), 'utf8'));
    return record?.format === RECORD_FORMAT ? record : undefined;
  } catch {
    return undefined;
  }
}

/** Whether a plan can serve here. A plan runs only under the TensorRT and the GPU that built it. */
export function planIsCurrent(record: PlanRecord | undefined, use: PlanUse): boolean {
  return whyPlanIsStale(record, use) === undefined;
}

/** Why a plan must be built anew, as one clause; undefined when it need not be. */
export function whyPlanIsStale(record: PlanRecord | undefined, use: PlanUse): string | undefined {
  if (!record) return 'there is no record of how it was built';
  const { engine } = record;
  if (!record.gate.passed) return 'it did not pass the fidelity gate';
  if (engine.gpu !== use.gpu) return `it was built on "${engine.gpu}", this is "${use.gpu}"`;
  if (engine.image !== use.image) return `it was built in ${engine.image}, not in ${use.image}`;
  if (use.imageId !== undefined && engine.imageId !== use.imageId) {
    return `the image ${use.image} is another one than it was built in`;
  }
  if (use.batchMax !== undefined && engine.batchMax !== use.batchMax) {
    return `it takes batches of ${engine.batchMax}, config.pbtxt says ${use.batchMax}`;
  }
  if (use.tokensMax !== undefined && engine.tokensMax < use.tokensMax) {
    return `it takes ${engine.tokensMax} tokens, the manifest says ${use.tokensMax}`;
  }
  if (use.bytes !== undefined && engine.bytes !== use.bytes) {
    return `it has ${use.bytes} bytes, the record says ${engine.bytes}`;
  }
  return undefined;
}

/** A dense row as the record holds it. */
export function encodeSelfCheckRow(row: Float32Array): string {
  return Buffer.from(row.buffer, row.byteOffset, row.byteLength).toString('base64');
}

/** The inverse of `encodeSelfCheckRow`; owned by the caller. */
export function decodeSelfCheckRow(text: string): Float32Array {
  return new Float32Array(Uint8Array.from(Buffer.from(text, 'base64')).buffer);
}
