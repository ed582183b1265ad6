import { type AnswerPair, type Fidelity, judgeFidelity } from '../../model/fidelity.ts';
import type { ModelRunner } from '../onnx/onnx-session.ts';
import gateTexts from './gate-texts.json';

/**
 * Lengths of the texts that are made of the others: engines choose other kernels for long inputs.
 */
const LONG_TOKEN_COUNTS = [300, 1_024];
/** How many texts run together, padded: an engine must not let a text's neighbours change it. */
const BATCH_TEXT_COUNT = 8;
const [FIRST_ID, LAST_ID] = [0, 2];

/**
 * Token ids of the texts that the gate compares: search queries and passages in several languages,
 * and two long ones.
 *
 * @param tokensMax longer texts are left out.
 */
export function gateTextIds(tokensMax: number): number[][] {
  const texts: number[][] = gateTexts.texts.map((text) => text.ids);
  const words = texts.flatMap((ids) => ids.slice(1, -1));
  const long = LONG_TOKEN_COUNTS.map((count) => [
    FIRST_ID,
    ...Array.from({ length: count - 2 }, (_, index) => words[index % words.length] ?? LAST_ID),
    LAST_ID,
  ]);
  return [...texts, ...long].filter((ids) => ids.length <= tokensMax);
}

/**
 * The fidelity gate: runs every text through both, one by one and then some of them padded
 * together, and compares each output.
 *
 * @param options.reference the model as it was exported, in float32.
 * @param options.candidate what is to serve.
 * @param options.outputs names of the outputs; each must be there.
 */
export async function runGate(options: {
  readonly reference: ModelRunner;
  readonly candidate: ModelRunner;
  readonly outputs: readonly string[];
  readonly tokensMax: number;
  readonly onText?: (done: number, of: number) => void;
}): Promise<Fidelity> {
  const { reference, candidate, outputs } = options;
  const texts = gateTextIds(options.tokensMax);
  const pairs: Record<string, AnswerPair[]> = {};
  const batches = [...texts.map((ids) => [ids]), texts.slice(0, BATCH_TEXT_COUNT)];
  for (const [index, batch] of batches.entries()) {
    options.onText?.(index, batches.length);
    const expected = await reference.run(batch);
    const found = await candidate.run(batch);
    for (const output of outputs) {
      const answer = expected.get(output);
      pairs[output] ??= [];
      if (answer) pairs[output].push({ expected: answer, found: found.get(output) });
    }
  }
  return judgeFidelity(pairs);
}
