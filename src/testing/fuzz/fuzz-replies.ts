import { decodeInferReply } from '../../backend/triton/triton-wire.ts';
import { ServerError } from '../../base/errors.ts';
import { headSet } from '../../vectors/output.ts';
import { rightReply, writeReply } from '../fake-triton-wire.ts';
import { seededRandom } from '../seeded-random.ts';
import { mutate } from './mutate.ts';

const DIMENSION = 4;
const TEXTS = [
  [0, 5, 6, 2],
  [0, 9, 2],
];
const BATCH = {
  texts: TEXTS.map((ids) => Int32Array.from(ids)),
  paddedLength: 8,
  heads: headSet(['dense']),
};
const SIGNATURE = {
  idsInput: 'input_ids',
  maskInput: 'attention_mask',
  inputDatatype: 'INT64',
  outputs: { dense: 'dense_vecs' },
  dimension: DIMENSION,
  padId: 1,
} as const;

/**
 * Reads one damaged reply of Triton: it must be refused by name, or give a row of the right length
 * for each text.
 *
 * @returns what is wrong, or nothing.
 */
export function fuzzReply(seed: number): string | undefined {
  const random = seededRandom(Math.imul(seed, 2_654_435_761) >>> 0);
  const right = writeReply(rightReply(TEXTS, { name: 'dense_vecs', dimension: DIMENSION }));
  const body = mutate(right.body, random);
  const lengths = [right.headerLength ?? 0, random.below(body.length + 8), -1, Number.NaN, null];
  const headerLength = random.below(3) > 0 ? (right.headerLength ?? 0) : random.pick(lengths);
  try {
    const { dense } = decodeInferReply(body, headerLength, { signature: SIGNATURE, batch: BATCH });
    const count = dense?.length;
    return count === TEXTS.length * DIMENSION ? undefined : `${count} values`;
  } catch (error) {
    const isNamed = error instanceof ServerError && error.code === 'EMB_OUTPUT_INVALID';
    return isNamed ? undefined : `it threw ${error}`;
  }
}
