/** A step of the set-up that failed: one line that says what, and what to do about it. */
export class StepError extends Error {
  override readonly name = 'StepError';
}

/** Where the set-up says what it does; one line a call. */
export type Log = (line: string) => void;
