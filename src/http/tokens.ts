import type { Elysia } from 'elysia';
import type { Clock } from '../base/clock.ts';
import { ServerError, toServerError } from '../base/errors.ts';
import { createLifetime } from '../base/lifetime.ts';
import type { Log } from '../base/log.ts';
import type { CompiledTokenizer, EncodedText } from '../tokenizer/compiled-tokenizer.ts';
import type { TokenizerPool } from '../tokenizer/tokenizer-pool.ts';
import type { BodyIntake } from './body-intake.ts';
import type { DocumentFacts } from './document-parts.ts';
import { REQUEST_ID_HEADER, requestIdOf } from './error-reply.ts';
import { fieldsOf, optionalBoolean, requiredTexts } from './field-checks.ts';
import { readBody } from './read-body.ts';
import { teiErrorReply } from './tei-error.ts';
import { decodeDocument, tokenizeDocument } from './token-documents.ts';

/** What the tokenizer's routes need. */
export interface TokensDoor {
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

/** One token, in the shape of text-embeddings-inference. */
interface ShownToken {
  readonly id: number;
  /** What the token stands for in the text; the piece itself for a token that the template adds. */
  readonly text: string;
  readonly special: boolean;
  /** Characters (code points) of the text: from `start` to before `stop`; null for a template's. */
  readonly start: number | null;
  readonly stop: number | null;
}

/** Adds `POST /tokenize` and `POST /decode`, in the shapes of text-embeddings-inference. */
export function addTokenRoutes(app: Elysia, door: TokensDoor): void {
  const answer =
    (run: (request: Request) => Promise<unknown>) =>
    async ({ request }: { request: Request }): Promise<Response> => {
      const requestId = requestIdOf(request);
      try {
        const headers = { [REQUEST_ID_HEADER]: requestId };
        return Response.json(await run(request), { headers });
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

async function answerTokenize(door: TokensDoor, request: Request): Promise<ShownToken[][]> {
  const { limits, clock, tokenizer } = door;
  const vocabulary = vocabularyOf(door);
  const fields = fieldsOf(await readBody(request, limits));
  const { texts } = requiredTexts(fields, 'inputs', limits.requestTextsMax);
  const specialTokens = optionalBoolean(fields, 'add_special_tokens') ?? true;
  const { signal } = request;
  const lifetime = createLifetime({ clock, timeoutMs: limits.requestTimeoutMs, signal });
  try {
    const explained = await tokenizer.explain(texts, lifetime, specialTokens);
    return explained.map((encoded, index) => shown(texts[index], encoded, vocabulary));
  } finally {
    lifetime.release();
  }
}

function shown(text: string, encoded: EncodedText, vocabulary: CompiledTokenizer): ShownToken[] {
  const { ids, starts, stops, special } = encoded;
  const indexOf = codePointIndex(text);
  return Array.from(ids, (id, at) => {
    if (special[at] === 1) {
      const piece = vocabulary.pieceOf(id) ?? '';
      return { id, text: piece, special: true, start: null, stop: null };
    }
    const [from, to] = [starts[at], stops[at]];
    const part = text.slice(from, to);
    return { id, text: part, special: false, start: indexOf(from), stop: indexOf(to) };
  });
}

/** Turns an index in UTF-16 units into one in code points. */
function codePointIndex(text: string): (unit: number) => number {
  if (!/[\ud800-\udbff]/.test(text)) return (unit) => unit;
  const indices = new Uint32Array(text.length + 1);
  let count = 0;
  for (let unit = 0; unit < text.length; unit++) {
    indices[unit] = count;
    const isSecondHalf = (text.charCodeAt(unit + 1) & 0xfc00) === 0xdc00;
    if (!isSecondHalf) count++;
  }
  indices[text.length] = count;
  return (unit) => indices[unit];
}

async function answerDecode(door: TokensDoor, request: Request): Promise<string[]> {
  const vocabulary = vocabularyOf(door);
  const fields = fieldsOf(await readBody(request, door.limits));
  const skipSpecialTokens = optionalBoolean(fields, 'skip_special_tokens') ?? true;
  const rows = idRowsOf(fields.ids, vocabulary.vocabularySize);
  return rows.map((ids) => vocabulary.decode(ids, { skipSpecialTokens }));
}

/** `ids` as one row or several, each id within the vocabulary. */
function idRowsOf(ids: unknown, vocabularySize: number): readonly number[][] {
  if (ids === undefined) {
    throw new ServerError('EMB_FIELD_MISSING', 'The field "ids" is missing.', { field: 'ids' });
  }
  const isNested = Array.isArray(ids) && Array.isArray(ids[0]);
  const rows: unknown[] = isNested ? ids : [ids];
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

function wrongId(field: string, wanted: string, value: string | number): ServerError {
  const message = `${field} must be ${wanted}, not ${value}.`;
  return new ServerError('EMB_FIELD_INVALID', message, { field, limit: wanted, value });
}

function vocabularyOf({ vocabulary }: TokensDoor): CompiledTokenizer {
  if (vocabulary !== undefined) return vocabulary;
  const message = "This model's tokenizer gives no pieces and offsets; GET /info names its engine.";
  throw new ServerError('EMB_TOKENIZER_UNSUPPORTED', message);
}
