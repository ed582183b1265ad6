import { type Cancellation, createCancellation } from '../../base/clock.ts';
import { ServerError } from '../../base/errors.ts';
import type { CompiledTokenizer } from '../../tokenizer/xlmr/compiled-tokenizer.ts';
import { post, type Route } from '../api.ts';
import type { ApiContext } from '../context.ts';
import { listOf, objectOf, type Schema } from '../document.ts';
import { REQUEST_ID_HEADER } from '../error-reply.ts';
import { BOOLEAN, type Field, missing, withDefault } from '../fields.ts';
import { timeoutOf } from '../request.ts';
import { valueReply } from '../response.ts';
import { DECODED_IDS_MAX, idCountOf, texts, tokenIdSchema } from '../text-fields.ts';

/** The tokenizer's routes of text-embeddings-inference: `POST /tokenize` and `POST /decode`. */
export function tokenRoutes(context: ApiContext): readonly Route[] {
  return [tokenizeRoute(context), decodeRoute(context)];
}

/**
 * UTF-16 units in one `POST /tokenize`, and tokens: in prose eight texts of 8,192 tokens, for which
 * a worker takes 50 ms. At worst each unit is a token: 300 ms, and a reply of 20 MB.
 */
const TOKENIZE_UNITS_MAX = 262_144;

/** Units of a token, on the low side, so that tokens are over-estimated. */
const UNITS_PER_TOKEN = 3;

const TOKEN: Schema = objectOf(
  {
    id: { type: 'integer' },
    text: { type: 'string' },
    special: { type: 'boolean' },
    start: { type: 'integer', nullable: true },
    stop: { type: 'integer', nullable: true },
  },
  ['id', 'text', 'special', 'start', 'stop'],
);

function tokenizeRoute(context: ApiContext): Route {
  const { limits, tokenizer } = context;
  return post(context, '/tokenize', {
    fields: {
      inputs: texts(limits.requestTextsMax),
      add_special_tokens: withDefault(BOOLEAN, true),
    },
    formats: 'json',
    summary: 'Token ids, pieces and offsets of texts',
    description: 'Offsets count characters (code points).',
    examples: { legal: { inputs: 'исковая давность' } },
    reply: { description: 'The tokens of each input, in order.', schema: listOf(listOf(TOKEN)) },
    async answer(call, { inputs, add_special_tokens: specialTokens }) {
      vocabularyOf(context);
      const unitCount = inputs.texts.reduce((sum, text) => sum + text.length, 0);
      if (unitCount > TOKENIZE_UNITS_MAX) {
        throw tooLarge('inputs', 'UTF-16 units', { limit: TOKENIZE_UNITS_MAX, value: unitCount });
      }
      const textCount = inputs.texts.length;
      const tokenCount = 2 * textCount + Math.ceil(unitCount / UNITS_PER_TOKEN);
      const most = { specialTokens, tokenCountMax: TOKENIZE_UNITS_MAX };
      const shown = await admitted(
        context,
        call.request,
        { textCount, tokenCount },
        (cancellation) => tokenizer.explain(inputs.texts, cancellation, most),
      );
      if (shown.json === undefined) {
        const value = shown.tokenCount;
        throw tooLarge('inputs', 'tokens', { limit: TOKENIZE_UNITS_MAX, value });
      }
      const headers = { 'content-type': 'application/json', [REQUEST_ID_HEADER]: call.requestId };
      const body = call.replyBudget.bodyOf(shown.json, call.requestId);
      return new Response(body, { headers });
    },
  });
}

function decodeRoute(context: ApiContext): Route {
  const { limits, vocabulary } = context;
  return post(context, '/decode', {
    fields: {
      skip_special_tokens: withDefault(BOOLEAN, true),
      ids: idRows(vocabulary, limits.requestTextsMax),
    },
    formats: 'json',
    summary: 'The text of token ids',
    examples: { greeting: { ids: [0, 33600, 31, 2] } },
    reply: {
      description: 'One text for each list of ids, in order.',
      schema: listOf({ type: 'string' }),
    },
    async answer(call, { ids: rows, skip_special_tokens: skipSpecialTokens }) {
      const known = vocabularyOf(context);
      const demand = { textCount: rows.length, tokenCount: idCountOf(rows) };
      const decoded = await admitted(context, call.request, demand, async () =>
        rows.map((ids) => known.decode(ids, { skipSpecialTokens })),
      );
      return valueReply(call, decoded);
    },
  });
}

/** Works in a place of the queue, for as long as the caller waits. */
async function admitted<Result>(
  { admission, access, clock, limits }: ApiContext,
  request: Request,
  demand: { readonly textCount: number; readonly tokenCount: number },
  work: (cancellation: Cancellation) => Promise<Result>,
): Promise<Result> {
  const asked = timeoutOf(request);
  const caller = access.callerOf(request);
  // The model sees nothing of it.
  const permit = admission.admit({ ...demand, workTokenCount: 0, timeoutMs: asked, caller });
  const timeoutMs = Math.min(asked ?? Infinity, limits.requestTimeoutMs);
  const cancellation = createCancellation({ clock, timeoutMs, signal: request.signal });
  try {
    return await work(cancellation);
  } finally {
    cancellation.release();
    permit.release();
  }
}

/** Token ids as one row or several, not too many, each id within the vocabulary. */
function idRows(
  vocabulary: CompiledTokenizer | undefined,
  rowCountMax: number,
): Field<readonly number[][]> {
  const size = vocabulary?.vocabularySize ?? Number.POSITIVE_INFINITY;
  const row = listOf(tokenIdSchema(vocabulary));
  return {
    schema: { anyOf: [row, listOf(row)] },
    isRequired: true,
    read(ids, at) {
      if (ids === undefined) throw missing(at);
      const isNested = Array.isArray(ids) && Array.isArray(ids[0]);
      const rows: unknown[] = isNested ? ids : [ids];
      if (rows.length > rowCountMax) {
        const message = `${at} has ${rows.length} lists, the limit is ${rowCountMax} in one request.`;
        const details = { field: at, limit: rowCountMax, value: rows.length };
        throw new ServerError('EMB_TEXTS_TOO_MANY', message, details);
      }
      const count = idCountOf(rows);
      if (count > DECODED_IDS_MAX) {
        throw tooLarge(at, 'token ids', { limit: DECODED_IDS_MAX, value: count });
      }
      rows.forEach((one, index) => {
        checkIds(one, isNested ? `${at}[${index}]` : at, size);
      });
      return rows as number[][];
    },
  };
}

function checkIds(row: unknown, field: string, size: number): void {
  if (!Array.isArray(row)) throw wrongId(field, 'an array of token ids', typeof row);
  const wrong = row.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= size);
  if (wrong < 0) return;
  const value = typeof row[wrong] === 'number' ? row[wrong] : typeof row[wrong];
  throw wrongId(`${field}[${wrong}]`, `a token id from 0 to ${size - 1}`, value);
}

function tooLarge(
  field: string,
  unit: string,
  { limit, value }: { limit: number; value: number },
): ServerError {
  const message = `${field} has ${value} ${unit}, the limit is ${limit} in one request.`;
  return new ServerError('EMB_REPLY_TOO_LARGE', message, { field, limit, value });
}

function wrongId(field: string, wanted: string, value: string | number): ServerError {
  const message = `${field} must be ${wanted}, not ${value}.`;
  return new ServerError('EMB_FIELD_INVALID', message, { field, limit: wanted, value });
}

function vocabularyOf({ vocabulary }: ApiContext): CompiledTokenizer {
  if (vocabulary !== undefined) return vocabulary;
  const message = "This model's tokenizer gives no pieces and offsets; GET /info names its engine.";
  throw new ServerError('EMB_TOKENIZER_UNSUPPORTED', message);
}
