import { invariant } from '../../base/errors.ts';
import { FloatBlock, type Head, valuesPerText } from '../../vectors/head.ts';
import type { BatchOutput, TokenBatch } from '../contract.ts';
import type { TritonReply, TritonRequest } from './triton-call.ts';
import { readOutputs, type TritonSignature, writeTokenTensors } from './triton-wire.ts';

/**
 * Triton's shared memory extension: tensors lie in a region that both processes have mapped, and
 * HTTP carries only their names, places and sizes.
 *
 * Source: `docs/protocol/extension_shared_memory.md` of triton-inference-server/server.
 */

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

const encoder = new TextEncoder();

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
  const [ids, mask] = [words(0), words(maskFrom)];
  writeTokenTensors(batch, { padId: signature.padId, wordsPerValue, ids, mask });
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

/** The HTTP side of a request whose tensors lie in a region. */
export function sharedCallOf(
  modelUrl: string,
  body: Uint8Array<ArrayBuffer>,
): Pick<TritonRequest, 'address' | 'method' | 'body'> & { headers: Record<string, string> } {
  const headers = { 'Content-Type': 'application/json' };
  return { address: `${modelUrl}/infer`, method: 'POST', body, headers };
}

/**
 * What a batch got, copied out of the region: the region may be used again once this returns.
 *
 * @throws ServerError EMB_OUTPUT_INVALID for anything else than exactly the heads that the batch
 * asked for, in their shapes.
 */
export function decodeSharedReply(
  reply: TritonReply,
  asked: { signature: TritonSignature; batch: TokenBatch },
  { region, layout }: { region: SharedRegion; layout: SharedLayout },
): BatchOutput {
  const result: { -readonly [H in Head]?: FloatBlock } = {};
  const bytesOf = (head: Head): number =>
    layout.outputs.find((output) => output.head === head)?.bytes ?? 0;
  for (const head of readOutputs(reply.body, asked, bytesOf)) {
    const place = layout.outputs.find((output) => output.head === head);
    invariant(place !== undefined, 'an output that was asked for has its place');
    // A copy: the next batch is written over these rows while callers still read them.
    result[head] = new FloatBlock(region.memory.slice(place.from, place.from + place.bytes));
  }
  return result;
}

/** Whether Triton says that it does not know the region: it was restarted since. */
export function isUnknownRegion({ status, body }: TritonReply): boolean {
  if (status === 200) return false;
  const said = new TextDecoder().decode(body.subarray(0, 500));
  return said.includes('Unable to find') && said.includes('shared memory region');
}
