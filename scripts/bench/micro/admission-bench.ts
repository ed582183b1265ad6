import { createAdmission } from '../../../src/admission/admission.ts';
import { systemClock } from '../../../src/base/clock.ts';
import type { MicroGroup } from './micro-task.ts';

const REQUESTS = 1000;

/** A place in the queue, taken and given back, and refused. */
export function admissionTasks(): MicroGroup {
  const limits = { clock: systemClock, textCountMax: 8192, tokenCountMax: 4_194_304 };
  const open = createAdmission(limits);
  const full = createAdmission({ ...limits, textCountMax: 1 });
  const demand = { textCount: 1, tokenCount: 20 };
  full.admit(demand);

  function admitAndRelease(): void {
    for (let count = 0; count < REQUESTS; count++) open.admit(demand).release();
  }

  function refuse(): number {
    let refused = 0;
    for (let count = 0; count < REQUESTS; count++) {
      try {
        full.admit(demand);
      } catch {
        refused++;
      }
    }
    return refused;
  }

  const of = { group: 'admission', per: 'request', operationCount: REQUESTS };
  return {
    tasks: [
      { ...of, name: 'admit and release', run: admitAndRelease },
      { ...of, name: 'refuse', run: refuse },
    ],
    close: () => undefined,
  };
}
