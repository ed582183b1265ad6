import { invariant, ServerError } from '../../base/errors.ts';
import { FloatBlock, type Head, valuesPerText } from '../../vectors/output.ts';
import type { BatchOutput, TokenBatch } from '../contract.ts';

/**
 * Triton's HTTP v2 protocol with the binary tensor extension: a JSON header, directly followed by
 * the tensors' bytes, little-endian and row-major. The lengths of both parts travel in HTTP
 * headers.
 *
 * Source: `docs/protocol/extension_binary_data.md` of triton-inference-server/server.
 */

/** What a model calls its tensors, read from its own metadata. */
export interface TritonSignature {
  readonly idsInput: string;
  readonly maskInput: string;
  readonly inputDatatype: 'INT64' | 'INT32';
  /** Name of the output of each head that the model has. */
  readonly outputs: { readonly [H in Head]?: string };
  /** Values of a dense row, and of each row of the multi-vector output. */
  readonly dimension: number;
  readonly padId: number;
  /** Triton has a response cache for it, whose key leaves out which outputs were asked for. */
  readonly cachesResponses?: boolean;
}

/** A request body: the JSON header and both tensors. */
export interface InferRequest {
  /** A view of the buffer it was written into. */
  readonly body: Uint8Array<ArrayBuffer>;
  /** Bytes of the JSON part, for `Inference-Header-Content-Length`. */
  readonly headerBytes: number;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/**
 * Writes an infer request.
 *
 * The header is filled up with spaces to a multiple of eight bytes, which JSON allows, so that the
 * tensors can be written in place as 32-bit words.
 *
 * @param batch borrowed.
 * @param take gives a buffer of at least so many bytes; the caller decides when it may be used
 * again.
 * @param id Triton repeats it in the reply's header, whose length it so decides.
 */
export function encodeInferRequest(
  batch: TokenBatch,
  signature: TritonSignature,
  take: (bytes: number) => ArrayBuffer,
  id?: string,
): InferRequest {
  const wordsPerValue = signature.inputDatatype === 'INT64' ? 2 : 1;
  const wordCount = batch.texts.length * batch.paddedLength * wordsPerValue;
  const tensorBytes = wordCount * 4;
  const input = (name: string): object => ({
    name,
    shape: [batch.texts.length, batch.paddedLength],
    datatype: signature.inputDatatype,
    parameters: { binary_data_size: tensorBytes },
  });
  const header = encoder.encode(
    JSON.stringify({
      id,
      inputs: [input(signature.idsInput), input(signature.maskInput)],
      outputs: batch.heads.map((head) => ({
        name: signature.outputs[head],
        parameters: { binary_data: true },
      })),
    }),
  );
  const headerBytes = (header.length + 7) & ~7;
  const bodyBytes = headerBytes + 2 * tensorBytes;
  const buffer = take(bodyBytes);
  invariant(buffer.byteLength >= bodyBytes, 'the buffer holds the body');
  const body = new Uint8Array(buffer, 0, bodyBytes);
  body.set(header);
  body.fill(0x20, header.length, headerBytes);
  const ids = new Int32Array(buffer, headerBytes, wordCount);
  const mask = new Int32Array(buffer, headerBytes + tensorBytes, wordCount);
  writeTokenTensors(batch, { padId: signature.padId, wordsPerValue, ids, mask });
  return { body, headerBytes };
}

/**
 * Aligns the rows of replies. A reply's rows start where its JSON header ends, wherever that is,
 * and rows off a multiple of four bytes would each be copied before they can be read as float32.
 * The request's id stands in the header, so its length moves the rows to such a place.
 *
 *     header = what never changes + id + digits of the batch's sizes
 *
 * The part that never changes is learned from each reply. Where it was guessed wrong, rows are
 * copied and nothing else is lost.
 */
export class ReplyAlignment {
  readonly #fixedLengths = new Map<readonly Head[], number>();

  /** The id to send with a batch. */
  idFor(batch: TokenBatch, dimension: number): string {
    const fixed = this.#fixedLengths.get(batch.heads) ?? 0;
    return 'rows'.slice(0, -(fixed + digitCountOf(batch, dimension)) & 3 || 4);
  }

  /** Learns from a reply to a batch that had `idFor`'s id. */
  learn(
    batch: TokenBatch,
    dimension: number,
    reply: { idLength: number; headerBytes: number },
  ): void {
    const { idLength, headerBytes } = reply;
    this.#fixedLengths.set(batch.heads, headerBytes - idLength - digitCountOf(batch, dimension));
  }
}

/** Digits in a reply's header that differ between batches: of shapes and byte counts. */
function digitCountOf({ texts, paddedLength, heads }: TokenBatch, dimension: number): number {
  const textCount = texts.length;
  let count = 0;
  for (const head of heads) {
    const byteCount = 4 * textCount * valuesPerText(head, { dimension, paddedLength });
    count += `${textCount}${byteCount}`.length;
    if (head === 'sparse') count += `${paddedLength}`.length;
    if (head === 'multi_vector') count += `${paddedLength - 1}`.length;
  }
  return count;
}

interface OutputHeader {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly parameters?: { readonly binary_data_size?: number };
}

/**
 * Reads an infer reply.
 *
 * Triton can answer 200 with `binary_data_size: 0`, so each byte count is checked against its
 * shape, and each shape against what the batch must give.
 *
 * @param body the whole reply; borrowed for as long as the output lives, which is a view of it.
 * @param headerBytes value of `Inference-Header-Content-Length`; null when the reply has no binary
 * part.
 * @throws ServerError EMB_OUTPUT_INVALID for anything else than exactly the heads that the batch
 * asked for.
 */
export function decodeInferReply(
  body: Uint8Array<ArrayBuffer>,
  headerBytes: number | null,
  asked: { signature: TritonSignature; batch: TokenBatch },
): BatchOutput {
  const { signature, batch } = asked;
  if (headerBytes === null || !(headerBytes > 0 && headerBytes <= body.length)) {
    const what = `its binary header length is ${headerBytes}, of ${body.length} bytes`;
    throw headerBytes === null ? lacking(what, signature) : invalid(what);
  }
  const result: { -readonly [H in Head]?: FloatBlock } = {};
  let offset = headerBytes;
  for (const output of parseOutputs(body.subarray(0, headerBytes))) {
    const head = batch.heads.find((wanted) => signature.outputs[wanted] === output.name);
    const size = output.parameters?.binary_data_size;
    // Triton's cache answers with all outputs that it holds: those that nobody asked for as JSON.
    if (head === undefined && size === undefined) continue;
    if (typeof size !== 'number' || size < 0 || offset + size > body.length) {
      throw invalid(`output ${output.name} claims ${size} bytes of ${body.length - offset}`);
    }
    if (head !== undefined) {
      checkOutput(output, size, head, asked);
      result[head] = new FloatBlock(body.subarray(offset, offset + size));
    }
    offset += size;
  }
  if (offset !== body.length) throw invalid(`${body.length - offset} bytes belong to no output`);
  const missing = batch.heads.find((head) => result[head] === undefined);
  if (missing !== undefined) {
    throw lacking(`it has no output ${signature.outputs[missing]}`, signature);
  }
  return result;
}

/**
 * The heads in a reply without a binary part, whose outputs lie in shared memory.
 *
 * @param bytesOf how many bytes the output of a head has there.
 * @throws ServerError EMB_OUTPUT_INVALID, as `decodeInferReply`.
 */
export function readOutputs(
  body: Uint8Array,
  asked: { signature: TritonSignature; batch: TokenBatch },
  bytesOf: (head: Head) => number,
): readonly Head[] {
  const { signature, batch } = asked;
  const found: Head[] = [];
  for (const output of parseOutputs(body)) {
    const head = batch.heads.find((wanted) => signature.outputs[wanted] === output.name);
    if (head === undefined) continue;
    checkOutput(output, bytesOf(head), head, asked);
    found.push(head);
  }
  const missing = batch.heads.find((head) => !found.includes(head));
  if (missing !== undefined) {
    throw lacking(`it has no output ${signature.outputs[missing]}`, signature);
  }
  return found;
}

function parseOutputs(header: Uint8Array): readonly OutputHeader[] {
  let parsed: { outputs?: unknown };
  try {
    parsed = JSON.parse(decoder.decode(header));
  } catch (cause) {
    throw invalid('its header is not JSON', cause);
  }
  if (!Array.isArray(parsed?.outputs) || !parsed.outputs.every(isObject)) {
    throw invalid('its header names no outputs');
  }
  return parsed.outputs as readonly OutputHeader[];
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null;
}

/**
 * A shape is right when it starts with the number of texts and has as many values for each as the
 * head must give.
 */
function checkOutput(
  output: OutputHeader,
  byteCount: number,
  head: Head,
  { signature, batch }: { signature: TritonSignature; batch: TokenBatch },
): void {
  const { name, datatype, shape } = output;
  if (!Array.isArray(shape)) throw invalid(`${name} has no shape`);
  if (datatype !== 'FP32') throw invalid(`${name} is ${datatype}, not FP32`);
  const { dimension } = signature;
  const each = valuesPerText(head, { dimension, paddedLength: batch.paddedLength });
  const textCount = batch.texts.length;
  const shapeCount = shape.reduce((product, size) => product * size, 1);
  if (shape[0] !== textCount || shapeCount !== textCount * each) {
    throw invalid(
      `${name} has shape [${shape}], not ${each} values for each of ${textCount} texts`,
    );
  }
  if (byteCount !== shapeCount * 4) {
    throw invalid(`${name} has ${byteCount} bytes for shape [${shape}], not ${shapeCount * 4}`);
  }
}

const NO_VECTOR = 'The backend answered something that is no vector.';

function invalid(what: string, cause?: unknown, message = NO_VECTOR): ServerError {
  return new ServerError('EMB_OUTPUT_INVALID', message, {
    cause: new Error(`Triton's reply is refused: ${what}.`, { cause }),
  });
}

/** A reply without an output that was asked for. */
function lacking(what: string, { cachesResponses }: TritonSignature): ServerError {
  if (cachesResponses !== true) return invalid(what);
  const why =
    "Triton's response cache has this text as another client asked for it, without the output " +
    'that is needed here. Switch response_cache off.';
  return invalid(what, undefined, `${NO_VECTOR} ${why}`);
}

/**
 * Writes the two input tensors of a batch, `[textCount, paddedLength]` each, as 32-bit words.
 *
 * An int64 is two words, low first, and a token id fits the low one: no BigInt is made for any
 * token.
 *
 * @param options.wordsPerValue 2 for INT64, 1 for INT32.
 * @param options.ids and `options.mask` are written whole; each holds `textCount × paddedLength ×
 * wordsPerValue` words.
 */
export function writeTokenTensors(
  batch: TokenBatch,
  options: { padId: number; wordsPerValue: 1 | 2; ids: Int32Array; mask: Int32Array },
): void {
  const { padId, wordsPerValue: step, ids, mask } = options;
  const { texts, paddedLength } = batch;
  const wordCount = texts.length * paddedLength * step;
  invariant(ids.length === wordCount && mask.length === wordCount, 'tensors have the batch shape');
  ids.fill(0);
  mask.fill(0);
  for (let row = 0; row < texts.length; row++) {
    const text = texts[row];
    invariant(text.length > 0 && text.length <= paddedLength, 'a text fits its padded length');
    let at = row * paddedLength * step;
    for (let index = 0; index < text.length; index++, at += step) {
      ids[at] = text[index];
      mask[at] = 1;
    }
    for (let index = text.length; index < paddedLength; index++, at += step) ids[at] = padId;
  }
}
