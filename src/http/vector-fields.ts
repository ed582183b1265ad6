import { ServerError } from '../base/errors.ts';
import { shortened } from '../base/shortened.ts';
import type { EncodeRequest } from '../encode/contract.ts';
import type { ModelManifest } from '../model/manifest.ts';
import {
  BOOLEAN,
  type Field,
  type FieldTable,
  integer,
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
/** Without prefixes it changes nothing which of them is meant. */
const PREFIX_CHOICE: Changing = {
  harmless: (_, { prefixes }) => prefixes.query === prefixes.passage,
  does: 'the route decides what is a query and what is a passage',
};
const DIMENSION: Changing = {
  harmless: (value, { dimension }) => value === dimension || value === 0,
  does: "rows have the model's own dimension",
};
const TOKENS: Changing = {
  harmless: (value, { tokenCountMax }) => value === -1 || Number(value) >= tokenCountMax,
  does: "texts are cut at the model's limit of tokens",
};
const NORM: Changing = { harmless: only(true), does: 'rows have unit norm' };
const FLOATS: Changing = {
  harmless: (value) => [value].flat().every(only('float', 'float32')),
  does: 'values are float32',
};
const POOLING: Changing = {
  harmless: (value, { pooling }) => value === pooling,
  does: 'the pooling is part of the model',
};

/**
 * By the name that a request uses. It holds on every route that takes a body, for the body and for
 * the objects in it; a field that a route has in its own table is checked by that alone.
 */
const CHANGING: Readonly<Record<string, Changing>> = {
  truncate: { harmless: only(true, 'end', 'right'), does: 'texts are cut at their end' },
  truncation: { harmless: only(true), does: "texts are cut at the model's limit of tokens" },
  truncate_prompt_tokens: TOKENS,
  max_tokens: TOKENS,
  max_length: TOKENS,
  max_tokens_per_doc: TOKENS,
  max_seq_length: TOKENS,
  max_query_length: TOKENS,
  max_passage_length: TOKENS,
  max_query_tokens: TOKENS,
  max_text_tokens: TOKENS,
  num_ctx: TOKENS,
  max_chunks_per_doc: { harmless: only(1), does: 'each text is scored as a whole' },
  truncation_side: { harmless: only('right', 'end'), does: 'texts are cut at their end' },
  truncation_direction: { harmless: only('right', 'end'), does: 'texts are cut at their end' },
  add_special_tokens: { harmless: only(true), does: 'special tokens are part of the model' },
  normalize: NORM,
  normalized: NORM,
  normalize_embeddings: NORM,
  embd_normalize: { harmless: only(2, true), does: 'rows have unit norm' },
  use_activation: NORM,
  activation: NORM,
  input_type: PREFIX_CHOICE,
  task: PREFIX_CHOICE,
  task_type: PREFIX_CHOICE,
  prompt_name: PREFIX_CHOICE,
  prompt_type: PREFIX_CHOICE,
  prompt: PREFIX,
  instruction: PREFIX,
  late_chunking: { harmless: only(false), does: 'each text is encoded by itself' },
  output_dtype: FLOATS,
  embedding_type: FLOATS,
  embedding_types: FLOATS,
  encoding_type: FLOATS,
  embed_dtype: FLOATS,
  endianness: { harmless: only('native', 'little'), does: 'bytes are little-endian' },
  output_dimension: DIMENSION,
  dimensions: DIMENSION,
  truncate_dim: DIMENSION,
  pooling: POOLING,
  pooling_strategy: POOLING,
  rank_fields: {
    harmless: (value) => [value].flat().every(only('text')),
    does: 'of a document its text is scored',
  },
};

/** Objects in which other servers take such fields; where a route has none of its own, too. */
const HOLDERS: ReadonlySet<string> = new Set([
  ...['parameters', 'params', 'options', 'config', 'extra_body'],
]);

/** Their names, for a test that sends each to every route. */
export const CHANGING_NAMES: readonly string[] = Object.keys(CHANGING);

/**
 * Refuses what a route would ignore although it changes vectors.
 *
 * @param table the route's own fields.
 * @param within what an object in the body is called: `config.`.
 * @throws ServerError EMB_FIELD_INVALID with the field's name.
 */
export function refuseChanging(
  body: unknown,
  table: FieldTable,
  manifest: ModelManifest,
  within = '',
): void {
  if (typeof body !== 'object' || body === null) return;
  for (const [name, value] of Object.entries(body)) {
    if (value === null || value === undefined) continue;
    if (Object.hasOwn(table, name)) {
      const inner = table[name].table;
      if (inner !== undefined) refuseChanging(value, inner, manifest, `${within}${name}.`);
      continue;
    }
    if (HOLDERS.has(name)) refuseChanging(value, {}, manifest, `${within}${name}.`);
    if (!Object.hasOwn(CHANGING, name)) continue;
    const { harmless, does } = CHANGING[name];
    if (harmless(value, manifest)) continue;
    const field = within + name;
    const said = CHANGING[name] === PREFIX ? '' : ` ${saidOf(value)}`;
    const message = `${field}${said} would change the vectors, and has one value here: ${does}. Leave it out.`;
    throw new ServerError('EMB_FIELD_INVALID', message, { field, limit: does });
  }
}

/** A word as it came, up to a bound. A prefix is a text, and never shown. */
function saidOf(value: unknown): string {
  if (typeof value === 'string') return `"${shortened(value)}"`;
  return typeof value === 'object' ? 'as an object' : String(value);
}

/** The opening and the closing special token, and one of the text. */
const KEPT_TOKENS_MIN = 3;

/** A limit of tokens as other servers have it: beyond the model's own it is that. */
export function tokenLimit({ tokenCountMax }: ModelManifest, description: string): Field<number> {
  const whole = integer({ min: KEPT_TOKENS_MIN, max: Number.MAX_SAFE_INTEGER });
  return {
    ...whole,
    schema: { ...whole.schema, description } as Field<number>['schema'],
    read: (value, at) => Math.min(whole.read(value, at), tokenCountMax),
  };
}

/** The limits of a query and of the texts that are scored against it. */
export function scoredTokensFields({ tokenCountMax }: ModelManifest) {
  const tokens = integer({ min: KEPT_TOKENS_MIN, max: tokenCountMax });
  const unlessTold = `special tokens included; ${tokenCountMax} unless told.`;
  return {
    max_query_tokens: optional(tokens, `Tokens that the query is cut to, ${unlessTold}`),
    max_text_tokens: optional(tokens, `Tokens that each text is cut to, ${unlessTold}`),
  };
}

/**
 * What they ask of the journey, in which the query is the first text. Where nothing is said of the
 * cut, a limit asks for it.
 *
 * @param isDefault TRUNCATE.
 */
export function scoredTokensOf(
  asked: {
    readonly truncate: boolean | undefined;
    readonly max_query_tokens: number | undefined;
    readonly max_text_tokens: number | undefined;
  },
  manifest: ModelManifest,
  isDefault: boolean,
): ScoredTokens {
  const { truncate, max_query_tokens: query, max_text_tokens: texts } = asked;
  const unlessTold = texts === undefined ? undefined : manifest.tokenCountMax;
  return {
    firstTokenCountMax: query ?? unlessTold,
    tokenCountMax: texts,
    firstTruncate: truncate ?? (isDefault || query !== undefined),
    truncate: truncate ?? (isDefault || texts !== undefined),
  };
}

type ScoredTokens = Pick<
  EncodeRequest,
  'truncate' | 'firstTruncate' | 'tokenCountMax' | 'firstTokenCountMax'
>;

/** How over-long texts are cut, in the words of OpenAI-like servers. */
interface Cut {
  readonly truncate?: 'left' | 'right' | 'none' | undefined;
  readonly truncation_side?: 'left' | 'right' | undefined;
  readonly truncate_prompt_tokens?: number | undefined;
  readonly truncation?: boolean | undefined;
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

/** vLLM's, NIM's and Voyage's fields for the cut. */
export function cutFields(manifest: ModelManifest) {
  const limit = tokenLimit(manifest, '');
  const tokens: Field<number> = {
    ...limit,
    schema: {
      oneOf: [
        { type: 'integer', enum: [-1] },
        { type: 'integer', minimum: KEPT_TOKENS_MIN, maximum: Number.MAX_SAFE_INTEGER },
      ],
    },
    read: (value, at) => (value === -1 ? manifest.tokenCountMax : limit.read(value, at)),
  };
  return {
    truncate: optional(TRUNCATE),
    truncation: optional(BOOLEAN, 'As truncate, in the word of Voyage.'),
    truncation_side: optional(oneOf(['left', 'right']), 'The side that is cut; right unless told.'),
    truncate_prompt_tokens: optional(
      tokens,
      `Tokens that texts are cut to, special tokens included; -1 and more than ${manifest.tokenCountMax} are the model's limit.`,
    ),
  };
}

/** What the cut's fields ask of the journey. @param isDefault TRUNCATE. */
export function cutOf(
  { truncate, truncation, truncation_side, truncate_prompt_tokens }: Cut,
  isDefault: boolean,
): Pick<EncodeRequest, 'truncate' | 'truncationSide' | 'tokenCountMax'> {
  const isAsked = truncation ?? (truncate_prompt_tokens !== undefined || isDefault);
  const isLeft = truncate === 'left' || truncation_side === 'left';
  return {
    truncate: truncate === undefined ? isAsked : truncate !== 'none',
    truncationSide: isLeft ? 'left' : 'right',
    tokenCountMax: truncate_prompt_tokens,
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

/** Says for clients that send no such field which side their texts are on. */
const INPUT_TYPE_HEADER = 'x-input-type';

/**
 * The prefix that the request's header asks for; that of a query without one.
 *
 * @throws ServerError EMB_FIELD_INVALID for a word that is not known.
 */
export function inputTypeInHeader({ headers }: Request): 'query' | 'passage' {
  const told = headers.get(INPUT_TYPE_HEADER);
  return told === null ? 'query' : INPUT_TYPE.read(told, INPUT_TYPE_HEADER);
}

/** The prefix, by the names that servers give to the field. */
export const TASK_FIELDS = {
  input_type: optional(INPUT_TYPE),
  task: optional(INPUT_TYPE, 'As input_type.'),
  task_type: optional(INPUT_TYPE, 'As input_type.'),
};

/** The prefix that they ask for; undefined where they say nothing. */
export function inputTypeOf(
  asked: {
    readonly [Name in keyof typeof TASK_FIELDS]: 'query' | 'passage' | undefined;
  },
): 'query' | 'passage' | undefined {
  return asked.input_type ?? asked.task ?? asked.task_type;
}
