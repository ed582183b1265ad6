import { ServerError } from '../base/errors.ts';
import type { CompiledTokenizer } from '../tokenizer/xlmr/compiled-tokenizer.ts';
import { type Fields, requiredTexts, type Texts } from './field-checks.ts';

/** What a door that may be given token ids does with them. */
export interface TokenIdPolicy {
  /** ALLOW_TOKEN_IDS. */
  readonly isAllowed: boolean;
  /** Undefined for a tokenizer that cannot decode. */
  readonly vocabulary: CompiledTokenizer | undefined;
}

/**
 * Token ids that one request may bring to be decoded. That is done where requests are answered, and
 * so many hold everybody up for 20 ms.
 */
export const DECODED_IDS_MAX = 65_536;

/** Ids in all rows together; what is no row counts as none. */
export function idCountOf(rows: readonly unknown[]): number {
  return rows.reduce<number>((sum, row) => sum + (Array.isArray(row) ? row.length : 0), 0);
}

/** The usual way in which ids of another vocabulary get here, and the way out. */
const ADVICE = 'Send texts; in LangChain, set check_embedding_ctx_length=False.';

/**
 * A string or an array of strings as in `requiredTexts`, or token ids: an array of them is one
 * text, an array that holds such arrays is several. Ids are decoded to the text that they stand
 * for, without special tokens, which the template puts back.
 *
 * @throws ServerError EMB_TOKEN_IDS_REFUSED, EMB_TOKENIZER_UNSUPPORTED, or as `requiredTexts`.
 */
export function requiredInputs(
  fields: Fields,
  field: string,
  options: { textCountMax: number; tokenIds: TokenIdPolicy },
): Texts {
  const { textCountMax, tokenIds } = options;
  const value = fields[field];
  const isIds = Array.isArray(value) && value.some((item) => typeof item !== 'string');
  // One text's ids may be more than texts are allowed; the limit is for texts.
  const isOne = isIds && value.every((item) => typeof item === 'number');
  const isTooMany = isIds && !isOne && value.length > textCountMax;
  if (!isIds || isTooMany || value.length === 0) return requiredTexts(fields, field, textCountMax);
  refuseManyIds(field, isOne ? value.length : idCountOf(value));
  if (isOne) {
    const text = textOfIds(value, field, tokenIds);
    return { ...requiredTexts({ [field]: text }, field, 1), isSingle: true };
  }
  const texts = value.map((item: unknown, index: number) =>
    Array.isArray(item) ? textOfIds(item, `${field}[${index}]`, tokenIds) : item,
  );
  return requiredTexts({ [field]: texts }, field, textCountMax);
}

function refuseManyIds(field: string, count: number): void {
  if (count <= DECODED_IDS_MAX) return;
  throw new ServerError(
    'EMB_TOKEN_IDS_REFUSED',
    `${field} has ${count} token ids, the limit is ${DECODED_IDS_MAX} in one request. ${ADVICE}`,
    { field, limit: DECODED_IDS_MAX, value: count },
  );
}

/** Ids outside the vocabulary are refused first: they are wrong whatever the setting says. */
function textOfIds(ids: readonly unknown[], field: string, policy: TokenIdPolicy): string {
  const { vocabulary, isAllowed } = policy;
  const size = vocabulary?.vocabularySize ?? Number.POSITIVE_INFINITY;
  const wrong = ids.findIndex((id) => !(typeof id === 'number' && id >= 0 && id < size));
  if (wrong >= 0 || !ids.every(Number.isInteger)) {
    const at = wrong >= 0 ? wrong : ids.findIndex((id) => !Number.isInteger(id));
    throw foreignId(`${field}[${at}]`, ids[at], size);
  }
  if (!isAllowed) {
    throw new ServerError(
      'EMB_TOKEN_IDS_REFUSED',
      `${field} holds token ids; this server takes texts, unless ALLOW_TOKEN_IDS is on. ${ADVICE}`,
      { field, limit: 'texts', value: 'token ids' },
    );
  }
  if (vocabulary === undefined) {
    const message = `This model's tokenizer cannot turn token ids into text. ${ADVICE}`;
    throw new ServerError('EMB_TOKENIZER_UNSUPPORTED', message, { field });
  }
  return vocabulary.decode(ids as number[], { skipSpecialTokens: true });
}

function foreignId(field: string, id: unknown, size: number): ServerError {
  const value = typeof id === 'number' && Number.isFinite(id) ? id : `a ${typeof id}`;
  const known = Number.isFinite(size) ? `ids from 0 to ${size - 1}` : 'ids of at least 0';
  return new ServerError(
    'EMB_TOKEN_IDS_REFUSED',
    `${field} is ${value}, but this model's vocabulary has ${known}. ${ADVICE}`,
    { field, limit: Number.isFinite(size) ? size - 1 : 0, value },
  );
}
