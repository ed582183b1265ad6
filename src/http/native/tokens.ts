import type { Elysia } from 'elysia';
import { type Cancellation, createCancellation } from '../../base/cancellation.ts';
import type { Clock } from '../../base/clock.ts';
import { ServerError, toServerError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Parts } from '../../encode/contract.ts';
import type { TokenizerPool } from '../../tokenizer/pool/tokenizer-pool.ts';
import type { CompiledTokenizer } from '../../tokenizer/xlmr/compiled-tokenizer.ts';
import type { CallerOf } from '../access.ts';
import type { BodyIntake } from '../body-intake.ts';
import type { DocumentFacts } from '../document-parts.ts';
import { REQUEST_ID_HEADER, requestIdOf } from '../error-reply.ts';
import { fieldsOf, optionalBoolean, requiredTexts } from '../field-checks.ts';
import { DECODED_IDS_MAX, idCountOf } from '../input-texts.ts';
import { readBody } from '../read-body.ts';
import { timeoutOf } from '../request-timeout.ts';
import { teiErrorReply } from '../tei/tei-error.ts';
import { decodeDocument, tokenizeDocument } from './token-documents.ts';

/** What the tokenizer's routes need. */
export interface TokensDoor {
  readonly admission: Parts['admission'];
  readonly callerOf: CallerOf;
  readonly tokenizer: TokenizerPool;
  readonly vocabulary: CompiledTokenizer | undefined;
  readonly limits: {
    readonly bodyBytesMax: number;
    readonly bodyIntake: BodyIntake;
    readonly requestTextsMax: number;
    readonly requestTimeoutMs: number;
  };
  /** For the documents of the routes. */
  readonly facts: DocumentFacts;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * UTF-16 units in one `POST /tokenize`, and tokens: in prose eight texts of 8,192 tokens, for which
 * a worker takes 50 ms. At worst each unit is a token: 300 ms, and a reply of 20 MB.
 */
const TOKENIZE_UNITS_MAX = 262_144;

/** Units of a token, on the low side, so that tokens are over-estimated. */
const UNITS_PER_TOKEN = 3;

/** Adds `POST /tokenize` and `POST /decode`, in the shapes of text-embeddings-inference. */
export function addTokenRoutes(app: Elysia, door: TokensDoor): void {
  const answer =
    (run: (request: Request) => Promise<string | Uint8Array<ArrayBuffer>>) =>
    async ({ request }: { request: Request }): Promise<Response> => {
      const requestId = requestIdOf(request);
      try {
        const headers = { 'content-type': 'application/json', [REQUEST_ID_HEADER]: requestId };
        return new Response(await run(request), { headers });
      } catch (error) {
        return teiErrorReply(toServerError(error), requestId, door.log);
      }
    };
  const options = { parse: 'none' } as const;
  const tokenize = answer((request) => answerTokenize(door, request));
  app.post('/tokenize', tokenize, { ...options, detail: tokenizeDocument(door.facts) });
  const decode = answer((request) => answerDecode(door, request));
  app.post('/decode', decode, { ...options, detail: decodeDocument(door.facts) });
}

async function answerTokenize(
  door: TokensDoor,
  request: Request,
): Promise<Uint8Array<ArrayBuffer>> {
  const { limits, tokenizer } = door;
  vocabularyOf(door);
  const timeoutMs = timeoutOf(request);
  const fields = fieldsOf(await readBody(request, limits));
  const { texts } = requiredTexts(fields, 'inputs', limits.requestTextsMax);
  const specialTokens = optionalBoolean(fields, 'add_special_tokens') ?? true;
  const unitCount = texts.reduce((sum, text) => sum + text.length, 0);
  if (unitCount > TOKENIZE_UNITS_MAX) {
    throw tooLarge('inputs', 'UTF-16 units', { limit: TOKENIZE_UNITS_MAX, value: unitCount });
  }
  const textCount = texts.length;
  const tokenCount = 2 * textCount + Math.ceil(unitCount / UNITS_PER_TOKEN);
  return admitted(door, request, { textCount, tokenCount, timeoutMs }, async (lifetime) => {
    const most = { specialTokens, tokenCountMax: TOKENIZE_UNITS_MAX };
    const shown = await tokenizer.explain(texts, lifetime, most);
    if (shown.json !== undefined) return shown.json;
    throw tooLarge('inputs', 'tokens', { limit: TOKENIZE_UNITS_MAX, value: shown.tokenCount });
  });
}

async function answerDecode(door: TokensDoor, request: Request): Promise<string> {
  const { limits } = door;
  const vocabulary = vocabularyOf(door);
  const timeoutMs = timeoutOf(request);
  const fields = fieldsOf(await readBody(request, limits));
  const skipSpecialTokens = optionalBoolean(fields, 'skip_special_tokens') ?? true;
  const rows = idRowsOf(fields.ids, vocabulary.vocabularySize, limits.requestTextsMax);
  const tokenCount = rows.reduce((sum, row) => sum + row.length, 0);
  return admitted(door, request, { textCount: rows.length, tokenCount, timeoutMs }, async () =>
    JSON.stringify(rows.map((ids) => vocabulary.decode(ids, { skipSpecialTokens }))),
  );
}

/** Works in a place of the queue, for as long as the caller waits. */
async function admitted<Reply>(
  { admission, callerOf, clock, limits }: TokensDoor,
  request: Request,
  demand: { textCount: number; tokenCount: number; timeoutMs: number | undefined },
  work: (lifetime: Cancellation) => Promise<Reply>,
): Promise<Reply> {
  const permit = admission.admit({ ...demand, caller: callerOf(request) });
  const timeoutMs = Math.min(demand.timeoutMs ?? Infinity, limits.requestTimeoutMs);
  const lifetime = createCancellation({ clock, timeoutMs, signal: request.signal });
  try {
    return await work(lifetime);
  } finally {
    lifetime.release();
    // Tells nothing of how fast the backend drains the queue: it had no part in this.
    permit.release(false);
  }
}

/** `ids` as one row or several, not too many, each id within the vocabulary. */
function idRowsOf(ids: unknown, vocabularySize: number, rowCountMax: number): readonly number[][] {
  if (ids === undefined) {
    throw new ServerError('EMB_FIELD_MISSING', 'The field "ids" is missing.', { field: 'ids' });
  }
  const isNested = Array.isArray(ids) && Array.isArray(ids[0]);
  const rows: unknown[] = isNested ? ids : [ids];
  if (rows.length > rowCountMax) {
    const message = `ids has ${rows.length} lists, the limit is ${rowCountMax} in one request.`;
    const details = { field: 'ids', limit: rowCountMax, value: rows.length };
    throw new ServerError('EMB_TEXTS_TOO_MANY', message, details);
  }
  const count = idCountOf(rows);
  if (count > DECODED_IDS_MAX) {
    throw tooLarge('ids', 'token ids', { limit: DECODED_IDS_MAX, value: count });
  }
  rows.forEach((row, at) => {
    const field = isNested ? `ids[${at}]` : 'ids';
    if (!Array.isArray(row)) throw wrongId(field, 'an array of token ids', typeof row);
    const wrong = row.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= vocabularySize);
    if (wrong < 0) return;
    const value = typeof row[wrong] === 'number' ? row[wrong] : typeof row[wrong];
    throw wrongId(`${field}[${wrong}]`, `a token id from 0 to ${vocabularySize - 1}`, value);
  });
  return rows as number[][];
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

function vocabularyOf({ vocabulary }: TokensDoor): CompiledTokenizer {
  if (vocabulary !== undefined) return vocabulary;
  const message = "This model's tokenizer gives no pieces and offsets; GET /info names its engine.";
  throw new ServerError('EMB_TOKENIZER_UNSUPPORTED', message);
}
