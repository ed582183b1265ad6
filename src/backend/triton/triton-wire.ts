import { ServerError } from '../../base/errors.ts';
import { invariant } from '../../base/invariant.ts';
import type { TokenBatch } from '../backend.ts';
import { writeTokenTensors } from '../token-tensors.ts';

/**
 * Triton's HTTP v2 protocol with the binary tensor extension: a JSON header, directly followed by the tensors' bytes,
 * little-endian and row-major. The lengths of both parts travel in HTTP headers.
 *
 * Source: `docs/protocol/extension_binary_data.md` of triton-inference-server/server.
 */

/** What a model calls its tensors, read from its own metadata. */
export interface TritonSignature {
  readonly idsInput: string;
  readonly maskInput: string;
  readonly inputDatatype: 'INT64' | 'INT32';
  readonly denseOutput: string;
  readonly dimension: number;
  readonly padId: number;
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
 * The header is filled up with spaces to a multiple of eight bytes, which JSON allows, so that the tensors can be written
 * in place as 32-bit words.
 *
 * @param batch borrowed.
 * @param take gives a buffer of at least so many bytes; the caller decides when it may be used again.
 */
export function encodeInferRequest(
  batch: TokenBatch,
  signature: TritonSignature,
  take: (bytes: number) => ArrayBuffer,
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
      inputs: [input(signature.idsInput), input(signature.maskInput)],
      outputs: [{ name: signature.denseOutput, parameters: { binary_data: true } }],
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
 * Reads the dense output of an infer reply.
 *
 * Triton can answer 200 with `binary_data_size: 0`, so each byte count is checked against its shape.
 *
 * @param body the whole reply; borrowed, and the rows are a view of it where their offset is a multiple of four.
 * @param headerBytes value of `Inference-Header-Content-Length`; null when the reply has no binary part.
 * @returns `[textCount, dimension]` float32.
 * @throws ServerError EMB_OUTPUT_INVALID for anything else than exactly those rows.
 */
export function decodeInferReply(
  body: Uint8Array<ArrayBuffer>,
  headerBytes: number | null,
  expected: { signature: TritonSignature; textCount: number },
): Float32Array {
  const { signature, textCount } = expected;
  if (headerBytes === null || !(headerBytes > 0 && headerBytes <= body.length)) {
    throw invalid(`its binary header length is ${headerBytes}, of ${body.length} bytes`);
  }
  const outputs = parseOutputs(body.subarray(0, headerBytes));
  let offset = headerBytes;
  let rows: Float32Array | undefined;
  for (const output of outputs) {
    const size = output.parameters?.binary_data_size;
    if (typeof size !== 'number' || size < 0 || offset + size > body.length) {
      throw invalid(`output ${output.name} claims ${size} bytes of ${body.length - offset}`);
    }
    if (output.name === signature.denseOutput) {
      rows = readRows(output, body.subarray(offset, offset + size), expected);
    }
    offset += size;
  }
  if (offset !== body.length) throw invalid(`${body.length - offset} bytes belong to no output`);
  if (rows === undefined) throw invalid(`it has no output ${signature.denseOutput}`);
  invariant(rows.length === textCount * signature.dimension, 'one row a text');
  return rows;
}

function parseOutputs(header: Uint8Array): readonly OutputHeader[] {
  let parsed: { outputs?: unknown };
  try {
    parsed = JSON.parse(decoder.decode(header));
  } catch (cause) {
    throw invalid('its header is not JSON', cause);
  }
  if (!Array.isArray(parsed?.outputs)) throw invalid('its header names no outputs');
  return parsed.outputs as readonly OutputHeader[];
}

function readRows(
  output: OutputHeader,
  bytes: Uint8Array<ArrayBuffer>,
  expected: { signature: TritonSignature; textCount: number },
): Float32Array {
  const { signature, textCount } = expected;
  const shape = `[${output.shape}]`;
  if (output.datatype !== 'FP32') throw invalid(`${output.name} is ${output.datatype}, not FP32`);
  if (shape !== `[${textCount},${signature.dimension}]`) {
    throw invalid(`${output.name} has shape ${shape}, not [${textCount},${signature.dimension}]`);
  }
  const wanted = textCount * signature.dimension * 4;
  if (bytes.length !== wanted) {
    throw invalid(`${output.name} has ${bytes.length} bytes for shape ${shape}, not ${wanted}`);
  }
  // A float32 view must start at a multiple of four; the header's length is the server's choice, so a copy may be needed.
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  return new Float32Array(aligned.buffer, aligned.byteOffset, wanted / 4);
}

function invalid(what: string, cause?: unknown): ServerError {
  return new ServerError(
    'EMB_OUTPUT_INVALID',
    'The backend answered something that is no vector.',
    {
      cause: new Error(`Triton's reply is refused: ${what}.`, { cause }),
    },
  );
}
