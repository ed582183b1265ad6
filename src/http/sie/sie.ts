import type { ServerError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { shortened } from '../../base/shortened.ts';
import type { EncodeResult } from '../../encode/contract.ts';
import { numpyArray } from '../../reply/encode-msgpack.ts';
import { float16Of, type NumberArray } from '../../reply/row-bytes.ts';
import { type Head, headSet } from '../../vectors/output.ts';
import { isQuantized, QUANTIZED, type Quantized, quantizeRow } from '../../vectors/quantize.ts';
import { type Api, encodeTexts, post, type Route } from '../api.ts';
import type { ApiContext, Call } from '../context.ts';
import { listOf, objectOf, type Schema } from '../document.ts';
import { type ErrorShape, errorReply, NATIVE_ERRORS } from '../error-reply.ts';
import {
  BOOLEAN,
  type Field,
  invalid,
  invalidWord,
  mapOf,
  missing,
  object,
  oneOf,
  optional,
  STRING,
  someOf,
} from '../fields.ts';
import { refuseForeignModel } from '../model-field.ts';
import { segmentsOf } from '../request.ts';
import { toldHeaders, valueReply } from '../response.ts';
import { textList } from '../text-fields.ts';

/**
 * SIE's `POST /v1/encode/MODEL`: items in, each with the heads that were asked for. Its SDK speaks
 * msgpack alone, with arrays as `msgpack-numpy` has them; JSON has lists in their place.
 */
export function sieApi(context: ApiContext): Api {
  const route = encodeRoute(context);
  const one = {
    name: 'model',
    in: 'path' as const,
    required: true,
    schema: { type: 'string', minLength: 1 } as const,
    example: context.manifest.id,
  };
  const routes: Route[] = [
    {
      ...route,
      paths: ['/v1/encode/:model'],
      document: {
        ...route.document,
        parameters: [one, ...(route.document?.parameters ?? [])],
      },
    },
    // A name on a hub, with its slash as it is.
    { ...route, paths: ['/v1/encode/:model/:name'], document: undefined },
  ];
  return { tag: 'SIE', errors: SIE_ERRORS, routes };
}

/** SIE's names of the heads. */
const OUTPUTS = { dense: 'dense', sparse: 'sparse', multivector: 'multi_vector' } as const;
const OUTPUT_NAMES = ['dense', 'sparse', 'multivector'] as const;

function encodeRoute(context: ApiContext): Route {
  const { manifest, limits } = context;
  const offered = OUTPUT_NAMES.filter((name) => manifest.heads.includes(OUTPUTS[name]));
  const params = object({
    output_types: optional(someOf(OUTPUT_NAMES, offered), 'Heads; dense unless told.'),
    output_dtype: optional(
      oneOf(['float32', 'float16', ...QUANTIZED]),
      'Type of the dense rows; of the multi-vectors where it is a float. binary is ubinary here.',
    ),
    instruction: EMPTY,
    options: OPTIONS,
  });
  const fields = { items: itemList(limits.requestTextsMax), params };
  return post(context, '/v1/encode/:model', {
    fields,
    formats: 'values',
    summary: 'Encode items by every head, in the shape of SIE',
    description:
      'Arrays in msgpack are those of msgpack-numpy. `options.is_query` false means a passage, for ' +
      'models with prefixes.',
    examples: {
      heads: { items: [{ id: 'a', text: 'исковая давность' }], params: { output_types: offered } },
    },
    reply: {
      description: 'One item for each that was sent, in order.',
      schema: objectOf({ model: { type: 'string' }, items: listOf({ type: 'object' }) }, [
        'model',
        'items',
      ]),
    },
    statuses: limits.strictModel ? [404] : [],
    async answer(asked, { items, params: { output_types, output_dtype, options } }) {
      if (limits.strictModel) {
        refuseForeignModel(manifest, segmentsOf(asked.request).slice(2).join('/'));
      }
      const result = await encodeTexts(context, asked, {
        texts: items.texts,
        heads: headSet((output_types ?? ['dense']).map((name): Head => OUTPUTS[name])),
        inputType: inputTypeOf(options.is_query),
        truncate: limits.truncate,
        fieldOf: (index) => `items[${index}]`,
      });
      const shown = shownItems(result, {
        ids: items.ids,
        dtype: output_dtype ?? 'float32',
        dimension: manifest.dimension,
        asked,
      });
      return valueReply(asked, { model: manifest.id, items: shown }, toldHeaders(result));
    },
  });
}

function inputTypeOf(isQuery: boolean | undefined): 'query' | 'passage' | undefined {
  if (isQuery === undefined) return undefined;
  return isQuery ? 'query' : 'passage';
}

type Dtype = 'float32' | 'float16' | Quantized;

function shownItems(
  { rows, sparse, multiVectors, tokenCounts }: EncodeResult,
  shown: {
    readonly ids: readonly (string | undefined)[];
    readonly dtype: Dtype;
    readonly dimension: number;
    readonly asked: Call;
  },
): readonly object[] {
  const { ids, dtype, dimension: dims, asked } = shown;
  const isMsgpack = asked.format.kind === 'msgpack';
  const array = (values: NumberArray, shape: readonly number[]): unknown =>
    isMsgpack ? numpyArray(values, shape) : nested([...values], shape);
  const floats = (values: Float32Array): NumberArray =>
    dtype === 'float16' ? float16Of(values) : values;
  return tokenCounts.map((_, index) => {
    const item: Record<string, unknown> = {};
    if (ids[index] !== undefined) item.id = ids[index];
    if (rows !== undefined) {
      const row = rows[index];
      const values = isQuantized(dtype) ? quantizeRow(row, STORED[dtype]) : floats(row);
      const dense = { dims, dtype, values: array(values, [values.length]) };
      // An empty text with EMPTY_TEXTS=null has none.
      item.dense = row.length === 0 ? null : dense;
    }
    if (sparse !== undefined) {
      const { indices, values } = sparse[index];
      const count = [indices.length];
      item.sparse = {
        dtype: 'float32',
        indices: array(indices, count),
        values: array(values, count),
      };
    }
    if (multiVectors !== undefined) {
      const { data, tokenCount } = multiVectors[index];
      const values = array(floats(data), [tokenCount, dims]);
      const type = dtype === 'float16' ? dtype : 'float32';
      item.multivector = { token_dims: dims, num_tokens: tokenCount, dtype: type, values };
    }
    return item;
  });
}

/** SIE names the bytes of ubinary binary as well; it has no offset binary. */
const STORED = { int8: 'int8', uint8: 'uint8', binary: 'ubinary', ubinary: 'ubinary' } as const;

function nested(values: readonly number[], [count, width]: readonly number[]): unknown {
  if (width === undefined) return values;
  return Array.from({ length: count }, (_, at) => values.slice(at * width, (at + 1) * width));
}

interface Items {
  readonly texts: readonly string[];
  readonly ids: readonly (string | undefined)[];
}

/** What an item may hold in place of a text. */
const MEDIA = ['images', 'audio', 'video', 'document', 'multivector'] as const;

function itemList(textCountMax: number): Field<Items> {
  const list = textList(textCountMax);
  const id = optional(STRING, 'Echoed beside its vectors.');
  const item = objectOf({ text: { type: 'string' }, id: id.schema }, ['text']);
  return {
    schema: { type: 'array', items: item, minItems: 1, maxItems: textCountMax },
    isRequired: true,
    read(value, at) {
      if (value === undefined) throw missing(at);
      if (!Array.isArray(value)) throw invalid(at, 'an array of items', value);
      // What is too long as a list is refused before its items are looked at.
      if (value.length > textCountMax) return { texts: list.read(value, at), ids: [] };
      const maps = value.map((one: unknown, index) => mapOf(one, `${at}[${index}]`));
      for (const [index, one] of maps.entries()) {
        const other = MEDIA.find((name) => one[name] !== undefined && one[name] !== null);
        if (other === undefined) continue;
        throw invalid(`${at}[${index}].${other}`, 'left out: texts alone are encoded', one[other]);
      }
      const texts = list.read(
        maps.map(({ text }) => text),
        at,
      );
      return { texts, ids: maps.map((one, index) => id.read(one.id, `${at}[${index}].id`)) };
    },
  };
}

const EMPTY: Field<undefined> = {
  schema: { type: 'string', nullable: true, maxLength: 0 },
  isRequired: false,
  read(value, at) {
    if (value === undefined || value === null || value === '') return undefined;
    throw invalid(at, 'left out: put it before the text', value);
  },
};

/** SIE's other options choose another pooling or other weights. */
const OPTIONS: Field<{ readonly is_query: boolean | undefined }> = (() => {
  const isQuery = optional(BOOLEAN, 'For models with prefixes; a query unless told.');
  const schema: Schema = { type: 'boolean', enum: [true, null], nullable: true };
  const normalize = { ...optional(BOOLEAN), schema };
  const field = object({ is_query: isQuery, normalize });
  return {
    ...field,
    schema: { ...field.schema, additionalProperties: { enum: [null], nullable: true } },
    read(value, at) {
      const options = mapOf(value ?? {}, at);
      for (const [name, one] of Object.entries(options)) {
        const isKnown = name === 'is_query' || (name === 'normalize' && one !== false);
        if (isKnown || one === null || one === undefined) continue;
        throw invalidWord(`${at}.${shortened(name)}`, 'left out: it would change the vectors', one);
      }
      return field.read(options, at);
    },
  };
})();

/** SIE has no 422. */
const STATUSES: Readonly<Record<number, number>> = { 422: 400 };

/** Beside our code the one by which its SDK decides: it waits for a model that loads. */
const SIE_ERROR_CODES: Readonly<Record<string, string>> = {
  EMB_BACKEND_UNAVAILABLE: 'MODEL_LOADING',
  EMB_SHUTTING_DOWN: 'MODEL_LOADING',
  EMB_QUEUE_FULL: 'RATE_LIMIT',
  EMB_TEXT_TOO_LONG: 'INPUT_TOO_LONG',
};

const SIE_ERRORS: ErrorShape = {
  reply(error: ServerError, requestId: string, log: Log): Response {
    const reply = errorReply(error, requestId, log);
    reply.headers.set('x-sie-error-code', SIE_ERROR_CODES[error.code] ?? error.code);
    const status = STATUSES[error.status] ?? error.status;
    return new Response(reply.body, { status, headers: reply.headers });
  },
  schema: NATIVE_ERRORS.schema,
  statuses: [400, 406, 408, 413, 415, 429, 500, 501, 502, 503, 504],
};
