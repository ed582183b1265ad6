/** What Triton counted for one model since it started. */
export interface TritonStatistics {
  /** Runs of the model: what the front is there to keep few. */
  readonly executionCount: number;
  /** Texts, that is rows, that went through successful inferences. */
  readonly inferenceCount: number;
  /** Inference requests that succeeded. */
  readonly requestCount: number;
  readonly failureCount: number;
  /** Time in which the model computed, in ms. */
  readonly computeMs: number;
  /** For each batch size that occurred, how many executions had it. */
  readonly batches: ReadonlyMap<number, number>;
}

interface Counted {
  readonly count?: number;
  readonly ns?: number;
}

interface StatisticsBody {
  readonly model_stats: readonly {
    readonly inference_count?: number;
    readonly execution_count?: number;
    readonly inference_stats: { readonly success?: Counted; readonly fail?: Counted };
    readonly batch_stats?: readonly {
      readonly batch_size: number;
      readonly compute_infer: Counted;
    }[];
  }[];
}

/**
 * Reads the reply to `/v2/models/{model}/stats`, which lists one version here. Counters of zero may
 * be absent.
 */
export function parseTritonStatistics(body: unknown): TritonStatistics {
  const [model] = (body as StatisticsBody).model_stats;
  if (model === undefined) throw new Error('Triton gave no statistics for the model.');
  return {
    executionCount: model.execution_count ?? 0,
    inferenceCount: model.inference_count ?? 0,
    requestCount: model.inference_stats.success?.count ?? 0,
    failureCount: model.inference_stats.fail?.count ?? 0,
    computeMs: (model.batch_stats ?? []).reduce(
      (ms, { compute_infer: { ns = 0 } }) => ms + ns / 1e6,
      0,
    ),
    batches: new Map(
      (model.batch_stats ?? []).map((batch) => [batch.batch_size, batch.compute_infer.count ?? 0]),
    ),
  };
}
