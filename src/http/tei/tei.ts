import type { DocumentDecoration, Elysia } from 'elysia';
import { toServerError } from '../../base/errors.ts';
import type { EncodeResult } from '../../encode/contract.ts';
import type { ByteWriter } from '../../reply/byte-writer.ts';
import { checkFormatCarries } from '../../reply/encode-reply.ts';
import { FLOAT32_JSON_BYTES_MAX } from '../../reply/float32-json.ts';
import type { MultiVector, SparseRow } from '../../reply/reply-content.ts';
import type { ReplyFormat } from '../../reply/reply-format.ts';
import { type Head, headSet } from '../../vectors/head.ts';
import { requestIdOf } from '../error-reply.ts';
import { optionalBoolean } from '../field-checks.ts';
import { requiredInputs } from '../input-texts.ts';
import { dimensionOf, shortRows } from '../short-rows.ts';
import {
  type DoorCall,
  readCall,
  tokenIdPolicyOf,
  type VectorDoor,
  vectorReply,
} from '../vector-door.ts';
import { computeHeaders, encodeTexts, promptOf, truncationOf } from './tei-call.ts';
import {
  embedAllDocument,
  embedDocument,
  embedSparseDocument,
  rerankDocument,
  similarityDocument,
} from './tei-documents.ts';
import { teiErrorReply } from './tei-error.ts';
import { answerRerank, answerSimilarity } from './tei-rerank.ts';

/**
 * Adds the routes of text-embeddings-inference that answer vectors or scores: `POST /embed` (also
 * `POST /`), `/embed_all`, `/embed_sparse`, `/similarity` and `/rerank`.
 *
 * Vectors always have length one: `normalize` is read and changes nothing, since the engine gives
 * normalised rows. `/embed_all` answers the multi-vector head, one row for each token but the
 * first; the original answers raw token states, which nobody should compare.
 */
export function addTeiRoutes(app: Elysia, door: VectorDoor): void {
  const { facts } = door;
  const post = (
    path: string,
    answer: (call: DoorCall) => Promise<Response>,
    detail: DocumentDecoration,
  ): void => {
    app.post(path, answering(door, answer), { parse: 'none', detail });
  };
  const embed = (call: DoorCall) => answerVectors(door, call, DENSE);
  post('/embed', embed, embedDocument(facts));
  post('/', embed, embedDocument(facts));
  post('/embed_all', (call) => answerVectors(door, call, MULTI_VECTOR), embedAllDocument(facts));
  post('/embed_sparse', (call) => answerVectors(door, call, SPARSE), embedSparseDocument(facts));
  post('/similarity', (call) => answerSimilarity(door, call), similarityDocument(facts));
  post('/rerank', (call) => answerRerank(door, call), rerankDocument(facts));
}

/** A handler whose errors have the shape of text-embeddings-inference. */
function answering(door: VectorDoor, answer: (call: DoorCall) => Promise<Response>) {
  return async ({ request }: { request: Request }): Promise<Response> => {
    const requestId = requestIdOf(request);
    try {
      return await answer(await readCall(door, request, requestId));
    } catch (error) {
      return teiErrorReply(toServerError(error), requestId, door.log);
    }
  };
}

/** One head of the model, and how its JSON is written. */
interface TeiHead {
  readonly head: Head;
  writeBody(writer: ByteWriter, result: EncodeResult, format: ReplyFormat): void;
}

const DENSE: TeiHead = {
  head: 'dense',
  writeBody(writer, { rows = [] }, format) {
    writer.reserve(rows.length * ((rows[0]?.length ?? 0) * FLOAT32_JSON_BYTES_MAX + 3));
    writeList(writer, rows, (row) => writeVector(writer, row, format));
  },
};

const SPARSE: TeiHead = {
  head: 'sparse',
  writeBody: (writer, { sparse = [] }) => writeList(writer, sparse, writeWeights),
};

const MULTI_VECTOR: TeiHead = {
  head: 'multi_vector',
  writeBody: (writer, { multiVectors = [] }, format) =>
    writeList(writer, multiVectors, (vectors) => {
      writeList(writer, rowsOf(vectors), (row) => writeVector(writer, row, format));
    }),
};

async function answerVectors(
  door: VectorDoor,
  call: DoorCall,
  { head, writeBody }: TeiHead,
): Promise<Response> {
  const { fields, format } = call;
  const dimension = head === 'dense' ? dimensionOf(fields, door.manifest) : door.manifest.dimension;
  if (head === 'dense') optionalBoolean(fields, 'normalize');
  checkFormatCarries(format, {
    dense: head === 'dense',
    sparse: head === 'sparse',
    multiVectors: head === 'multi_vector',
  });
  const { texts, isSingle } = requiredInputs(fields, 'inputs', {
    textCountMax: door.limits.requestTextsMax,
    tokenIds: tokenIdPolicyOf(door),
  });
  const encoded = await encodeTexts(door, call, {
    texts,
    heads: headSet([head]),
    inputType: promptOf(fields),
    ...truncationOf(door, fields),
    fieldOf: (index) => (isSingle ? 'inputs' : `inputs[${index}]`),
  });
  const rows = encoded.rows === undefined ? undefined : shortRows(encoded.rows, dimension);
  const result = rows === undefined ? encoded : { ...encoded, rows };
  return vectorReply(door, call, {
    result,
    format,
    dimension,
    writeBody: (writer) => writeBody(writer, result, format),
    headers: computeHeaders(door, call, { texts, result }),
  });
}

function writeList<Item>(
  writer: ByteWriter,
  items: Iterable<Item>,
  write: (item: Item, writer: ByteWriter) => void,
): void {
  writer.ascii('[');
  let isFirst = true;
  for (const item of items) {
    if (!isFirst) writer.ascii(',');
    isFirst = false;
    write(item, writer);
  }
  writer.ascii(']');
}

function writeVector(writer: ByteWriter, row: Float32Array, format: ReplyFormat): void {
  if (format.kind === 'json' && format.encoding === 'base64') writer.base64(row);
  else writer.floats(row);
}

function writeWeights({ indices, values }: SparseRow, writer: ByteWriter): void {
  writeList(writer, indices.keys(), (at) => {
    writer.ascii(`{"index":${indices[at]},"value":`);
    writer.numbers(values.subarray(at, at + 1));
    writer.ascii('}');
  });
}

function* rowsOf({ tokenCount, data }: MultiVector): Iterable<Float32Array> {
  const dimension = data.length / tokenCount;
  for (let token = 0; token < tokenCount; token++) {
    yield data.subarray(token * dimension, (token + 1) * dimension);
  }
}
