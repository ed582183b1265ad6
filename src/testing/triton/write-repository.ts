import { cpSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const TEMPLATES = join(import.meta.dir, 'models');

/**
 * Which fake takes the place of the engine. Each has a `model.py` in `models/`.
 *
 * - `deterministic`: rows that `deterministicEmbedding` recomputes bit for bit.
 * - `timed`: the same rows, after the time that a GPU would take.
 * - `trivial`: rows from a table, `trivialEmbedding`; for measuring everything but the model.
 * - `faulty`: the deterministic rows, wrong on demand.
 * - `onnx`: a graph in ONNX Runtime, with all of its heads.
 */
export type TritonModelKind = 'deterministic' | 'timed' | 'trivial' | 'faulty' | 'onnx';

/**
 * One thing that a faulty model does.
 *
 * On the texts it strikes: `nan`, `infinite` (one number of the row), `zero`, `unscaled` (norm 2).
 * On the whole request: `empty` (status 200, rows of no numbers), `short` (rows one number short),
 * `missing` (no output at all), `error` (Triton answers an error), `slow` (right, but after
 * `delayMs`), `crash` (the model's process dies: Triton 2.51 answers 500 to everything after that,
 * while it calls the model ready, until it is restarted).
 */
export type TritonFault =
  | 'nan'
  | 'infinite'
  | 'zero'
  | 'unscaled'
  | 'empty'
  | 'short'
  | 'missing'
  | 'error'
  | 'slow'
  | 'crash';

export interface TritonModelOptions {
  readonly name: string;
  readonly kind: TritonModelKind;
  /** Of ids and mask both. */
  readonly datatype: 'INT64' | 'INT32';
  /** Numbers of a row. */
  readonly dimension: number;
  /** Texts of one batch. */
  readonly maxBatch: number;
  /** `input_ids` and `attention_mask` by default. The mask's name contains `mask`. */
  readonly inputs?: { readonly ids: string; readonly mask: string };
  /** `sentence_embedding` by default. */
  readonly output?: string;
  /** For `trivial`: an output of multi-vectors, which it lacks unless it has a name here. */
  readonly multiVectorOutput?: string;
  /**
   * Present: Triton joins requests of equal shape, waiting this long for more. Absent: each request
   * is one execution.
   */
  readonly queueDelayMicroseconds?: number;
  /** Triton answers what it has answered before from its cache, where it was started with one. */
  readonly cachesResponses?: boolean;
  /** For `onnx`, in place of `output`: the graph, and the outputs it has beside the batch. */
  readonly onnx?: {
    readonly path: string;
    readonly outputs: Readonly<Record<string, readonly number[]>>;
  };
  /** For `timed`: 4 ms for a launch and 120,000 padded tokens a second by default. */
  readonly timing?: {
    readonly launchMs: number;
    readonly tokensPerSecond: number;
    /** Length at which attention costs as much as the rest of a token; unless told, it is free. */
    readonly lengthTokens?: number;
  };
  /** Profiles that the model says it has, as `formatProfiles` writes them. */
  readonly profiles?: string;
  /** For `faulty`: which token id brings which fault, and the file of `writeFault`. */
  readonly faults?: {
    readonly tokens?: Readonly<Partial<Record<TritonFault, number>>>;
    readonly controlFile?: string;
  };
}

/** Fills `dir` with one folder a model: config.pbtxt and the Python that it runs. */
export function writeRepository(options: {
  dir: string;
  models: readonly TritonModelOptions[];
}): void {
  for (const model of options.models) {
    const directory = join(options.dir, model.name);
    writeModelSource(join(directory, '1'), model.kind);
    writeFileSync(join(directory, 'config.pbtxt'), configText(model));
  }
}

/** Copies the `model.py` of a kind, and the modules that it imports, into `directory`. */
export function writeModelSource(directory: string, kind: TritonModelKind): void {
  mkdirSync(directory, { recursive: true });
  const python = { recursive: true, filter: (path: string) => !path.endsWith('__pycache__') };
  cpSync(join(TEMPLATES, 'modules'), directory, python);
  cpSync(join(TEMPLATES, kind), directory, python);
}

/**
 * From the next execution on, a faulty model with this control file does `fault` to everything;
 * `none` ends it.
 */
export function writeFault(options: {
  controlFile: string;
  fault: TritonFault | 'none';
  /** For `slow`. */
  delayMs?: number;
}): void {
  const { controlFile, fault, delayMs } = options;
  // Renamed into place: the model may read at any moment.
  writeFileSync(`${controlFile}.partial`, JSON.stringify({ fault, delayMs }));
  renameSync(`${controlFile}.partial`, controlFile);
}

function configText(model: TritonModelOptions): string {
  const inputs = model.inputs ?? { ids: 'input_ids', mask: 'attention_mask' };
  const tensor = (name: string, datatype: string, dims: readonly number[]) =>
    `{ name: ${JSON.stringify(name)} data_type: TYPE_${datatype} dims: [ ${dims} ] }`;
  const outputs = model.onnx?.outputs ?? {
    [model.output ?? 'sentence_embedding']: [model.dimension],
    ...(model.multiVectorOutput === undefined
      ? {}
      : { [model.multiVectorOutput]: [-1, model.dimension] }),
  };
  const lines = [
    `name: ${JSON.stringify(model.name)}`,
    'backend: "python"',
    `max_batch_size: ${model.maxBatch}`,
    `input ${tensor(inputs.ids, model.datatype, [-1])}`,
    `input ${tensor(inputs.mask, model.datatype, [-1])}`,
    ...Object.entries(outputs).map(([name, dims]) => `output ${tensor(name, 'FP32', dims)}`),
    'instance_group { count: 1 kind: KIND_CPU }',
    ...Object.entries(parameters(model)).map(
      ([key, value]) =>
        `parameters { key: "${key}" value { string_value: ${JSON.stringify(value)} } }`,
    ),
  ];
  if (model.queueDelayMicroseconds !== undefined) {
    lines.push(
      `dynamic_batching { max_queue_delay_microseconds: ${model.queueDelayMicroseconds} }`,
    );
  }
  if (model.cachesResponses === true) lines.push('response_cache { enable: true }');
  return `${lines.join('\n')}\n`;
}

/**
 * What the Python side reads. The default timing is that of a mid-range GPU on BGE-M3, as the
 * scheduling figures assume.
 */
function parameters(model: TritonModelOptions): Record<string, string> {
  const timing: NonNullable<TritonModelOptions['timing']> = model.timing ?? {
    launchMs: 4,
    tokensPerSecond: 120_000,
  };
  const { tokens, controlFile } = model.faults ?? {};
  return {
    launch_ms: String(timing.launchMs),
    tokens_per_second: String(timing.tokensPerSecond),
    length_tokens: String(timing.lengthTokens ?? 0),
    ...(model.profiles === undefined ? {} : { profiles: model.profiles }),
    ...(tokens === undefined ? {} : { fault_tokens: JSON.stringify(tokens) }),
    ...(model.onnx === undefined ? {} : { onnx_path: model.onnx.path }),
    ...(controlFile === undefined ? {} : { control_file: controlFile }),
  };
}
