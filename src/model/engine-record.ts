import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from '../base/log.ts';
import { COSINE_MIN, cosineOf, type Fidelity } from './fidelity.ts';
import type { ModelManifest } from './manifest.ts';

/**
 * The record beside a TensorRT engine: where it comes from, what it runs on, how well it did.
 */
export interface EngineRecord {
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
    /** What tells one content of the image from another: Docker's id, or TensorRT's own version. */
    readonly imageId: string;
    /** Its profiles, as `formatProfiles` writes them. */
    readonly profiles: string;
    /** Those that were asked for: more, or larger, where they did not fit the GPU. */
    readonly profilesWanted: string;
    /** How attention is run, by the precision of the graph and the names of the kernels. */
    readonly attention: {
      readonly precision: 'half' | 'bfloat16' | 'float' | 'float-softmax';
      readonly fusion: 'fused' | 'partly' | 'none' | 'unknown';
      readonly fusedCount: number;
      readonly softmaxCount: number;
    };
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
export interface EngineUse {
  /** Id of the model's manifest, and the revision that it pins. */
  readonly model?: string;
  readonly revision?: string | undefined;
  readonly gpu: string;
  readonly image: string;
  /** Undefined when Docker does not have the image yet. */
  readonly imageId?: string | undefined;
  /** The profiles that settings and limits ask for. */
  readonly profilesWanted?: string;
  /** Length of the engine's file. */
  readonly bytes?: number;
}

/** Another number for every change that an older reader would misread. */
export const RECORD_FORMAT = 2;

/** Where the record of an engine lies. */
export function engineRecordPath(enginePath: string): string {
  return `${enginePath}.json`;
}

/** The record beside an engine; undefined when there is none, or one of another format. */
export async function readEngineRecord(enginePath: string): Promise<EngineRecord | undefined> {
  try {
    const record = JSON.parse(await readFile(engineRecordPath(enginePath), 'utf8'));
    return record?.format === RECORD_FORMAT ? record : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Why an engine must be built anew, as one clause; undefined when it need not be. An engine runs
 * only under the TensorRT and on the GPU that built it.
 */
export function whyEngineIsStale(
  record: EngineRecord | undefined,
  use: EngineUse,
): string | undefined {
  if (!record) return 'there is no record of how it was built';
  const { engine, source } = record;
  if (use.model !== undefined && record.model !== use.model) {
    return `it is one of ${record.model}, not of ${use.model}`;
  }
  if (use.revision !== undefined && source.revision !== use.revision) {
    return `it was built from revision ${source.revision}, not from ${use.revision}`;
  }
  if (!record.gate.passed) return 'it did not pass the fidelity gate';
  if (engine.gpu !== use.gpu) return `it was built on "${engine.gpu}", this is "${use.gpu}"`;
  if (engine.image !== use.image) return `it was built in ${engine.image}, not in ${use.image}`;
  if (use.imageId !== undefined && engine.imageId !== use.imageId) {
    return `the image ${use.image} is another one than it was built in`;
  }
  if (use.profilesWanted !== undefined && engine.profilesWanted !== use.profilesWanted) {
    return `it was built for batches of ${engine.profilesWanted}, not of ${use.profilesWanted}`;
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
 * Reads the self-check out of the record beside the engine: the gate of the export, on one text. An
 * engine may have been damaged, replaced, or moved to another GPU since.
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
  const engine = join(modelsDir, manifest.tritonModel, '1', 'model.plan');
  const record = await readEngineRecord(engine);
  if (record === undefined) return undefined;
  const ids = Int32Array.from(record.selfCheck?.ids ?? []);
  const wanted = decodeSelfCheckRow(record.selfCheck?.dense ?? '');
  const isUsable = record.model === manifest.id && ids.length > 0;
  if (!isUsable || wanted.length !== manifest.dimension) {
    log.warn('self-check-unusable', { plan: engine, model: record.model, values: wanted.length });
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
