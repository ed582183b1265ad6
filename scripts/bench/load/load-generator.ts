/**
 * The process that makes the load: it gets a plan from its parent, runs it, and answers with what
 * it found. A process of its own, so that neither the bench nor the server waits for it, and its
 * processor time can be told from theirs.
 */
import type { LoadMessage, LoadPlan } from './load-plan.ts';
import { runLoad } from './load-run.ts';

const tell = (message: LoadMessage): unknown => process.send?.(message);

process.on('message', async (plan: LoadPlan) => {
  try {
    tell({ result: await runLoad(plan, (progress) => tell({ progress })) });
  } catch (error) {
    tell({ failure: (error as Error).message });
  }
});
process.on('disconnect', () => process.exit(0));
