import { ServerError } from '../base/errors.ts';
import type { ModelManifest } from '../model/manifest.ts';
import {
  type Field,
  type FieldTable,
  integer,
  invalid,
  invalidWord,
  oneOf,
  optional,
} from './fields.ts';

/**
 * Fields by which other servers change vectors. Where one has a meaning here it is obeyed; where it
 * would change a vector and cannot be, it is refused by name. All other unknown fields are ignored.
 */

/** Values of a field that change nothing here, and what the server does whatever it says. */
interface Changing {
  readonly harmless: (value: unknown, manifest: ModelManifest) => boolean;
  readonly does: string;
}

const only =
  (...words: readonly unknown[]) =>
  (value: unknown): boolean =>
    words.includes(typeof value === 'string' ? value.toLowerCase() : value);

const PREFIX: Changing = {
  harmless: only(''),
  does: "the model's own prefixes are set by input_type",
};
const NORM: Changing = { harmless: only(true), does: 'rows have unit norm' };
const FLOATS: Changing = { harmless: only('float', 'float32'), does: 'values are float32' };

/** By the name that a request uses. Who adds a field to a route takes it out of here by that. */
const CHANGING: Readonly<Record<string, Changing>> = {
  truncate: { harmless: only(true, 'end', 'right'), does: 'texts are cut at their end' },
  truncate_prompt_tokens: {
    harmless: (value, { tokenCountMax }) => value === -1 || Number(value) >= tokenCountMax,
    does: "texts are cut at the model's limit of tokens",
  },
  truncation_side: { harmless: only('right', 'end'), does: 'texts are cut at their end' },
  truncation_direction: { harmless: only('right', 'end'), does: 'texts are cut at their end' },
  add_special_tokens: { harmless: only(true), does: 'special tokens are part of the model' },
  normalize: NORM,
  normalized: NORM,
  embd_normalize: { harmless: only(2, true), does: 'rows have unit norm' },
  prompt: PREFIX,
  instruction: PREFIX,
  late_chunking: { harmless: only(false), does: 'each text is encoded by itself' },
  output_dtype: FLOATS,
  embedding_type: FLOATS,
  encoding_type: FLOATS,
  output_dimension: {
    harmless: (value, { dimension }) => value === dimension || value === 0,
    does: "rows have the model's own dimension",
  },
};

/**
 * Refuses what a route would ignore although it changes vectors.
 *
 * @param table the route's own fields.
 * @throws ServerError EMB_FIELD_INVALID with the field's name.
 */
export function refuseChanging(body: unknown, table: FieldTable, manifest: ModelManifest): void {
  if (typeof body !== 'object' || body === null) return;
  for (const [name, value] of Object.entries(body)) {
    if (!Object.hasOwn(CHANGING, name) || Object.hasOwn(table, name)) continue;
    const { harmless, does } = CHANGING[name];
    if (value === null || value === undefined || harmless(value, manifest)) continue;
    const message = `${name} would change the vectors, and has one value here: ${does}. Leave it out.`;
    throw new ServerError('EMB_FIELD_INVALID', message, { field: name, limit: does });
  }
}

/** How over-long texts are cut, in the words of OpenAI-like servers. */
interface Cut {
  readonly truncate?: 'left' | 'right' | 'none' | undefined;
  readonly truncation_side?: 'left' | 'right' | undefined;
  readonly truncate_prompt_tokens?: number | undefined;
}

const SIDES = { true: 'right', end: 'right', right: 'right', start: 'left', left: 'left' } as const;

const TRUNCATE: Field<'left' | 'right' | 'none'> = {
  schema: {
    oneOf: [{ type: 'boolean' }, { type: 'string', enum: ['NONE', 'START', 'END'] }],
    description: 'Cut over-long texts at their end (true, END) or start (START), or refuse them.',
  },
  isRequired: true,
  read(value, at) {
    const word = typeof value === 'string' ? value.toLowerCase() : value;
    if (word === false || word === 'none') return 'none';
    const side = Object.entries(SIDES).find(([name]) => name === String(word))?.[1];
    if (side !== undefined && (word === true || typeof value === 'string')) return side;
    throw invalidWord(at, 'true, false, "NONE", "START" or "END"', value);
  },
};

/** vLLM's and NIM's fields for the cut. */
export function cutFields({ tokenCountMax }: ModelManifest) {
  const whole = integer({ min: -1, max: Number.MAX_SAFE_INTEGER });
  const limit = `-1, or the model's limit of ${tokenCountMax} tokens or more`;
  const tokens: Field<number> = {
    ...whole,
    schema: {
      oneOf: [
        { type: 'integer', enum: [-1] },
        { type: 'integer', minimum: tokenCountMax },
      ],
    },
    read(value, at) {
      const count = whole.read(value, at);
      if (count === -1 || count >= tokenCountMax) return count;
      throw invalid(at, limit, value);
    },
  };
  return {
    truncate: optional(TRUNCATE),
    truncation_side: optional(oneOf(['left', 'right']), 'The side that is cut; right unless told.'),
    truncate_prompt_tokens: optional(tokens, `Cuts texts at ${limit}; a shorter cut is refused.`),
  };
}

/** What the cut's fields ask of the journey. @param isDefault TRUNCATE. */
export function cutOf(
  { truncate, truncation_side, truncate_prompt_tokens }: Cut,
  isDefault: boolean,
): { readonly truncate: boolean; readonly truncationSide: 'left' | 'right' } {
  const isAsked = truncate_prompt_tokens !== undefined || isDefault;
  const isLeft = truncate === 'left' || truncation_side === 'left';
  return {
    truncate: truncate === undefined ? isAsked : truncate !== 'none',
    truncationSide: isLeft ? 'left' : 'right',
  };
}

const QUERY = ['query', 'search_query', 'retrieval_query', 'classification', 'clustering'];
const MORE_QUERY = ['text_matching', 'separation', 'semantic_similarity', 'question_answering'];
const PASSAGE = ['passage', 'document', 'search_document', 'retrieval_passage'];
const MORE_PASSAGE = ['retrieval_document'];

/** The words as each of the servers spells them. More spellings are taken. */
const SPELLED = [...QUERY, ...MORE_QUERY, ...PASSAGE, ...MORE_PASSAGE].flatMap((word) => [
  word,
  ...(word.includes('_') ? [word.replaceAll('_', '.'), word.replaceAll('_', '-')] : []),
  word.toUpperCase(),
]);

/** The words are those of Cohere, NIM, Jina, Voyage and Google, in either case. */
const INPUT_TYPE: Field<'query' | 'passage'> = {
  schema: {
    type: 'string',
    enum: SPELLED,
    description:
      'For models with prefixes: query or passage, in the words of Cohere, NIM, Jina, Voyage or ' +
      'Google: search_document, retrieval.passage, RETRIEVAL_QUERY.',
  },
  isRequired: true,
  read(value, at) {
    const word = typeof value === 'string' ? value.toLowerCase().replace(/[.-]/g, '_') : '';
    if ([...PASSAGE, ...MORE_PASSAGE].includes(word)) return 'passage';
    if ([...QUERY, ...MORE_QUERY].includes(word)) return 'query';
    throw invalidWord(at, `one of ${[...QUERY, ...PASSAGE].join(', ')}`, value);
  },
};

/** The prefix, by the names that servers give to the field. */
export const TASK_FIELDS = {
  input_type: optional(INPUT_TYPE),
  task: optional(INPUT_TYPE, 'As input_type.'),
  task_type: optional(INPUT_TYPE, 'As input_type.'),
};
