import {
  type Admission,
  createAdmission,
  type Demand,
  type Permit,
} from '../admission/admission.ts';
import { ServerError } from '../base/errors.ts';
import { VirtualClock } from './virtual-clock.ts';

/** An admission on a virtual clock, and what waits behind it, for a test to set. */
export function admissionHarness(
  options: { textCountMax?: number; tokenCountMax?: number; timeoutMs?: number } = {},
) {
  const clock = new VirtualClock();
  const drain = { tokensPerMs: 10, isMeasured: false };
  const fill = { textCount: 1e9, tokenCount: 1e9 };
  const backlog = { waitingTextCount: 0, latenessMs: 0, drain, fill };
  const limits = { textCountMax: 100, tokenCountMax: 10_000, ...options };
  return { clock, backlog, admission: createAdmission({ clock, backlog, ...limits }) };
}

/** Why a demand is refused; undefined when it is not, and then nothing is held. */
export function refusalOf(admission: Admission, demand: Demand): ServerError | undefined {
  try {
    admission.admit(demand).release();
    return undefined;
  } catch (error) {
    if (error instanceof ServerError) return error;
    throw error;
  }
}

/** The least that anybody asks. */
export const one = (caller?: string): Demand => ({ textCount: 1, tokenCount: 10, caller });

/** Takes so many tokens of the queue, by two requests: one alone is never counted as all of it. */
export function hold(admission: Admission, tokenCount: number): Pick<Permit, 'release'> {
  const halves = [1, 2].map(() => admission.admit({ textCount: 1, tokenCount: tokenCount / 2 }));
  return {
    release() {
      for (const permit of halves) permit.release();
    },
  };
}
