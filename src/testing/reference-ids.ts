import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createReferenceTokenizer } from './reference-tokenizer.ts';

/** Token ids of a text by the reference, `<s>` and `</s>` included, nothing cut off. */
export type ReferenceIds = (text: string) => Promise<readonly number[]>;

/**
 * Loads the reference tokenizer of a model that was set up below `models/`.
 *
 * @throws Error that says what to run, when it was not.
 */
export function loadReferenceIds(modelId: string): ReferenceIds {
  const path = join(import.meta.dir, '../../models', modelId, 'tokenizer.json');
  if (!existsSync(path)) throw new Error(`${modelId} is not set up: run ./run.sh test.`);
  const tokenizer = createReferenceTokenizer(path);
  return async (text) => {
    const [{ ids }] = await tokenizer.encode([text], { specialTokens: true });
    return ids;
  };
}
