import { describeError } from '../../base/log.ts';
import { type InferenceEngine, loadInferenceEngine } from './inference-engine.ts';
import type { InferenceGreeting } from './inference-protocol.ts';
import { proveEngine } from './prove-engine.ts';

/**
 * Loads a model and proves that it computes: its mapped copy where there is one, and the plain file
 * where that fails. Facts then say why.
 *
 * @throws Error with a sentence for the operator, when the plain file fails too.
 */
export async function openEngine(greeting: InferenceGreeting): Promise<InferenceEngine> {
  const { mappedPath } = greeting;
  if (mappedPath === undefined) return openProven(greeting);
  try {
    return await openProven({ ...greeting, modelPath: mappedPath });
  } catch (error) {
    const engine = await openProven(greeting);
    return { ...engine, facts: { ...engine.facts, mappedRefusal: describeError(error) } };
  }
}

async function openProven(greeting: InferenceGreeting): Promise<InferenceEngine> {
  const engine = await loadInferenceEngine(greeting);
  try {
    await proveEngine(engine, greeting);
    return engine;
  } catch (error) {
    await engine.release();
    throw error;
  }
}
