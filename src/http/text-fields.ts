import { ServerError } from '../base/errors.ts';
import type { CompiledTokenizer } from '../tokenizer/xlmr/compiled-tokenizer.ts';
import type { Schema } from './document.ts';
import { type Field, invalid, missing } from './fields.ts';

/**
 * Fields that hold texts, or token ids in place of texts. Each may be refused with
 * EMB_FIELD_MISSING, EMB_FIELD_INVALID, EMB_TEXT_EMPTY, EMB_TEXTS_TOO_MANY or EMB_TEXT_NOT_UNICODE.
 */

/** The texts of a field, and whether they came as one string. */
export interface Texts {
  readonly texts: readonly string[];
  readonly isSingle: boolean;
}

/** The name of a text of a field in errors: `query`, or `query[3]`. */
export function textNameOf(field: string, { isSingle }: Texts): (index: number) => string {
  return (index) => (isSingle ? field : `${field}[${index}]`);
}

const TEXT_SCHEMA: Schema = { type: 'string' };

/** One text, of well-formed Unicode. What becomes of an empty one the journey decides. */
export const TEXT: Field<string> = {
  schema: TEXT_SCHEMA,
  isRequired: true,
  read(value, at) {
    if (value === undefined) throw missing(at);
    if (typeof value !== 'string') throw invalid(at, 'a string', value);
    checkText(value, at);
    return value;
  },
};

/** An array of texts: at least one, and no more than `textCountMax`. */
export function textList(textCountMax: number): Field<readonly string[]> {
  return {
    schema: listSchema(TEXT_SCHEMA, textCountMax),
    isRequired: true,
    read(value, at) {
      if (value !== undefined && !Array.isArray(value)) {
        throw invalid(at, 'an array of strings', value);
      }
      return readTexts(value, at, textCountMax).texts;
    },
  };
}

/** One text, or an array of them. */
export function texts(textCountMax: number, description?: string): Field<Texts> {
  const list = listSchema(TEXT_SCHEMA, textCountMax);
  return {
    schema: {
      oneOf: [TEXT_SCHEMA, list],
      ...(description === undefined ? {} : { description }),
    },
    isRequired: true,
    read: (value, at) => readTexts(value, at, textCountMax),
  };
}

function listSchema(items: Schema, maxItems: number): Schema {
  return { type: 'array', items, minItems: 1, maxItems };
}

function readTexts(value: unknown, at: string, textCountMax: number): Texts {
  if (value === undefined) throw missing(at);
  if (typeof value === 'string') {
    checkText(value, at);
    return { texts: [value], isSingle: true };
  }
  if (!Array.isArray(value)) throw invalid(at, 'a string or an array of strings', value);
  if (value.length === 0) {
    const message = `${at} is an empty array; send at least one text.`;
    throw new ServerError('EMB_TEXT_EMPTY', message, { field: at, limit: 1, value: 0 });
  }
  if (value.length > textCountMax) {
    throw new ServerError(
      'EMB_TEXTS_TOO_MANY',
      `${at} has ${value.length} texts, the limit is ${textCountMax} in one request.`,
      { field: at, limit: textCountMax, value: value.length },
    );
  }
  for (let index = 0; index < value.length; index++) {
    const text: unknown = value[index];
    if (typeof text !== 'string') throw invalid(`${at}[${index}]`, 'a string', text);
    checkText(text, `${at}[${index}]`);
  }
  return { texts: value as string[], isSingle: false };
}

function checkText(text: string, field: string): void {
  if (!text.isWellFormed()) {
    const at = text.search(LONE_SURROGATE);
    throw new ServerError(
      'EMB_TEXT_NOT_UNICODE',
      `${field} has half of a surrogate pair at character ${at}; it is no Unicode text.`,
      { field, limit: 'well-formed Unicode', value: at },
    );
  }
}

const LONE_SURROGATE = /\p{Surrogate}/u;

/** What an API that may be given token ids does with them. */
export interface TokenIdPolicy {
  /** ALLOW_TOKEN_IDS. */
  readonly isAllowed: boolean;
  /** Undefined for a tokenizer that cannot decode. */
  readonly vocabulary: CompiledTokenizer | undefined;
}

/**
 * Token ids that one request may bring to be decoded. Decoding runs on the main thread; this many
 * ids hold it for 20 ms.
 */
export const DECODED_IDS_MAX = 65_536;

/** Ids in all rows together; what is not an array counts as none. */
export function idCountOf(rows: readonly unknown[]): number {
  return rows.reduce<number>((sum, row) => sum + (Array.isArray(row) ? row.length : 0), 0);
}

/** The schema of a token id. */
export function tokenIdSchema(vocabulary: CompiledTokenizer | undefined): Schema {
  const size = vocabulary?.vocabularySize;
  return { type: 'integer', minimum: 0, ...(size === undefined ? {} : { maximum: size - 1 }) };
}

/** The usual way in which ids of another vocabulary get here, and the way out. */
const ADVICE = 'Send texts; in LangChain, set check_embedding_ctx_length=False.';

/**
 * Texts as in `texts`, or token ids: an array of ids is one text, an array of such arrays is
 * several. Ids are decoded to the text that they stand for, without special tokens, which the
 * template adds again.
 *
 * It may also be refused with EMB_TOKEN_IDS_REFUSED or EMB_TOKENIZER_UNSUPPORTED.
 */
export function inputs(textCountMax: number, tokenIds: TokenIdPolicy): Field<Texts> {
  const schemas = [TEXT_SCHEMA, listSchema(TEXT_SCHEMA, textCountMax)];
  if (tokenIds.isAllowed) {
    const ids: Schema = { type: 'array', items: tokenIdSchema(tokenIds.vocabulary) };
    // Beside others, no ids are a blank text; alone they are no text.
    schemas.push({ ...ids, minItems: 1 }, listSchema(ids, textCountMax));
  }
  return {
    schema: { oneOf: schemas },
    isRequired: true,
    read(value, at) {
      const isIds = Array.isArray(value) && value.some((item) => typeof item !== 'string');
      // One text's ids may be more than texts are allowed; the limit is for texts.
      const isOne = isIds && value.every((item) => typeof item === 'number');
      const isTooMany = isIds && !isOne && value.length > textCountMax;
      if (!isIds || isTooMany || value.length === 0) return readTexts(value, at, textCountMax);
      refuseManyIds(at, isOne ? value.length : idCountOf(value));
      if (isOne) return readTexts(textOfIds(value, at, tokenIds), at, 1);
      const decoded = value.map((item: unknown, index: number) =>
        Array.isArray(item) ? textOfIds(item, `${at}[${index}]`, tokenIds) : item,
      );
      return readTexts(decoded, at, textCountMax);
    },
  };
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
