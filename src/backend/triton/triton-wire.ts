import { invariant, ServerError } from '../../base/errors.ts';
import { FloatBlock, type Head, valuesPerText } from '../../vectors/output.ts';
import type { BatchOutput, TokenBatch } from '../contract.ts';

/**
 * Triton's HTTP v2 protocol with the binary tensor extension: a JSON header, directly followed by
 * the tensors' bytes, little-endian and row-major. The lengths of both parts travel in HTTP
 * headers. Or the tensors lie in a region of shared memory, and HTTP carries only their places.
 *
 * Source: `docs/protocol/extension_binary_data.md` and `extension_shared_memory.md` of
 * triton-inference-server/server.
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

/** A region as a request needs it: what Triton calls it, and our mapping of it. */
export interface SharedRegion {
  readonly name: string;
  readonly memory: Uint8Array<ArrayBuffer>;
}

/** Where a batch's tensors lie in a region, in bytes from its start. */
export interface SharedLayout {
  readonly tensorBytes: number;
  readonly outputs: readonly {
    readonly head: Head;
    readonly from: number;
    readonly bytes: number;
  }[];
  /** What all of them take. */
  readonly bytes: number;
}

/** Tensors start at a cache line, so that two of them never share one. */
const ALIGNMENT = 64;

/** Plans ids, mask and outputs of a batch one after the other. Pure. */
export function layoutOf(batch: TokenBatch, signature: TritonSignature): SharedLayout {
  const { dimension, inputDatatype } = signature;
  const { texts, paddedLength, heads } = batch;
  const tensorBytes = texts.length * paddedLength * (inputDatatype === 'INT64' ? 8 : 4);
  let bytes = 2 * aligned(tensorBytes);
  const outputs = heads.map((head) => {
    const from = bytes;
    const size = 4 * texts.length * valuesPerText(head, { dimension, paddedLength });
    bytes += aligned(size);
    return { head, from, bytes: size };
  });
  return { tensorBytes, outputs, bytes };
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

/**
 * Writes a batch's ids and mask into a region, and the request that names them.
 *
 * Each row of the outputs is marked with NaN first. A Triton that answered without having written
 * would otherwise hand out the rows of the batch before; the output guard takes NaN for no row.
 *
 * @param batch borrowed. The region is the caller's alone until Triton has answered.
 */
export function encodeSharedRequest(
  batch: TokenBatch,
  signature: TritonSignature,
  { region, layout }: { region: SharedRegion; layout: SharedLayout },
): Uint8Array<ArrayBuffer> {
  const { name, memory } = region;
  const { tensorBytes, outputs } = layout;
  invariant(layout.bytes <= memory.length, 'the region holds the batch');
  const wordsPerValue = signature.inputDatatype === 'INT64' ? 2 : 1;
  const words = (from: number): Int32Array<ArrayBuffer> =>
    new Int32Array(memory.buffer, memory.byteOffset + from, tensorBytes / 4);
  const maskFrom = aligned(tensorBytes);
  const tensors = { ids: words(0), mask: words(maskFrom) };
  writeTokenTensors(batch, { padId: signature.padId, wordsPerValue, ...tensors });
  for (const { head, from, bytes } of outputs) {
    const values = new Float32Array(memory.buffer, memory.byteOffset + from, bytes / 4);
    const rowLength = head === 'sparse' ? batch.paddedLength : signature.dimension;
    for (let at = 0; at < values.length; at += rowLength) values[at] = Number.NaN;
  }
  const place = (from: number, bytes: number): object => ({
    shared_memory_region: name,
    shared_memory_offset: from,
    shared_memory_byte_size: bytes,
  });
  const input = (tensor: string, from: number): object => ({
    name: tensor,
    shape: [batch.texts.length, batch.paddedLength],
    datatype: signature.inputDatatype,
    parameters: place(from, tensorBytes),
  });
  return encoder.encode(
    JSON.stringify({
      inputs: [input(signature.idsInput, 0), input(signature.maskInput, maskFrom)],
      outputs: outputs.map(({ head, from, bytes }) => ({
        name: signature.outputs[head],
        parameters: place(from, bytes),
      })),
    }),
  );
}

/**
 * What a batch got, as views of the region: the region may be used again once nobody reads them.
 *
 * @throws ServerError EMB_OUTPUT_INVALID for anything else than exactly the heads that the batch
 * asked for, in their shapes.
 */
export function decodeSharedReply(
  body: Uint8Array,
  asked: { signature: TritonSignature; batch: TokenBatch },
  { region, layout }: { region: SharedRegion; layout: SharedLayout },
): BatchOutput {
  const { signature } = asked;
  const given = parseOutputs(body);
  const result: { -readonly [H in Head]?: FloatBlock } = {};
  for (const { head, from, bytes } of layout.outputs) {
    const name = signature.outputs[head];
    const output = given.find((one) => one.name === name);
    if (output === undefined) throw lacking(`it has no output ${name}`, signature);
    checkOutput(output, bytes, head, asked);
    result[head] = new FloatBlock(region.memory.subarray(from, from + bytes));
  }
  return result;
}
