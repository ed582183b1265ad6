import { type Head, headSet, valuesPerText } from '../../vectors/head.ts';
import type { InferenceEngine } from './inference-engine.ts';
import { type InferenceGreeting, tokensOfJob } from './inference-protocol.ts';

/**
 * Runs `<s> </s>` through a model that was just loaded: what loads need not compute, and only a
 * real inference shows it.
 *
 * @throws Error with a sentence for the operator.
 */
export async function proveEngine(
  engine: InferenceEngine,
  greeting: InferenceGreeting,
): Promise<void> {
  const size = { dimension: greeting.dimension, paddedLength: 2 };
  const heads = headSet(Object.keys(greeting.outputs) as Head[]);
  const outputs = await engine.run({
    jobId: 0,
    ...tokensOfJob([[0, 2]]),
    heads,
    isAlone: false,
  });
  for (const head of heads) {
    const values = outputs[head];
    const count = valuesPerText(head, size);
    if (values?.length !== count) {
      throw new Error(`the output ${head} has ${values?.length} values for a text, not ${count}`);
    }
    if (!values.every(Number.isFinite)) throw new Error(`the output ${head} is not finite`);
  }
}
