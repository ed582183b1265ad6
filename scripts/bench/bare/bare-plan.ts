/** What the bare run is told, and what its threads are. Plain data: it goes to another process. */
export interface BarePlan {
  /** The ONNX file. */
  readonly modelPath: string;
  /** Name of the output with one row a text. */
  readonly output: string;
  /** Token ids of the texts, special tokens included. */
  readonly texts: readonly (readonly number[])[];
  /** Sessions side by side, each on a thread of its own, one text at a time. */
  readonly sessionCount: number;
  /** Threads that each session computes with. */
  readonly threadCount: number;
  readonly warmUpMs: number;
  /** 0: only the rows are wanted. */
  readonly measureMs: number;
}

/** What a thread is told. */
export interface BareThreadPlan extends BarePlan {
  /** One counter that all threads draw their next text from. */
  readonly next: SharedArrayBuffer;
  readonly index: number;
}

/** What the bare run found. */
export interface BareResult {
  readonly textsPerSecond: number;
  /** Time of one text, in ms. */
  readonly p50Ms: number;
  /** `[dimension]` float32 of each text, where `measureMs` is 0. */
  readonly rows: readonly Float32Array[];
}

/** What a thread found. */
export interface BareThreadResult {
  readonly textCount: number;
  /** In ms, one a text. */
  readonly times: Float64Array;
  readonly rows: readonly Float32Array[];
}
