import type { TokenBatch } from '../../../src/backend/contract.ts';
import {
  decodeInferReply,
  encodeInferRequest,
  type TritonSignature,
} from '../../../src/backend/triton/triton-wire.ts';
import { headSet } from '../../../src/vectors/output.ts';
import type { MicroGroup, MicroTask } from './micro-task.ts';

const DIMENSION = 1024;

const SHAPES = [
  { textCount: 1, paddedLength: 16 },
  { textCount: 32, paddedLength: 32 },
  { textCount: 32, paddedLength: 512 },
] as const;

/** Writing a batch for Triton, in both integer types, and reading its reply. */
export function framingTasks(): MicroGroup {
  const tasks = SHAPES.flatMap(({ textCount, paddedLength }) => {
    const ids = Int32Array.from({ length: paddedLength - 1 }, (_, index) => index + 5);
    const batch = { texts: Array(textCount).fill(ids), paddedLength, heads: headSet(['dense']) };
    const shape = `${textCount} × ${paddedLength}`;
    return [
      encodeTask(batch, 'INT64', shape),
      encodeTask(batch, 'INT32', shape),
      decodeTask(batch, `${textCount} rows`),
    ];
  });
  // Reading depends on the rows alone.
  const distinct = new Map(tasks.map((task) => [task.name, task]));
  return { tasks: [...distinct.values()], close: () => undefined };
}

function encodeTask(batch: TokenBatch, inputDatatype: 'INT64' | 'INT32', shape: string): MicroTask {
  const signature = signatureOf(inputDatatype);
  // One buffer over and over, as the endpoint reuses its own.
  const buffer = new ArrayBuffer(2 ** 20);
  return {
    group: 'Triton framing',
    name: `write ${shape} ${inputDatatype}`,
    per: 'batch',
    operationCount: 1,
    run: () => encodeInferRequest(batch, signature, () => buffer),
  };
}

function decodeTask(batch: TokenBatch, shape: string): MicroTask {
  const signature = signatureOf('INT64');
  const { length: textCount } = batch.texts;
  const header = JSON.stringify({
    model_name: 'bge_model',
    model_version: '1',
    outputs: [
      {
        name: signature.outputs.dense,
        datatype: 'FP32',
        shape: [textCount, DIMENSION],
        parameters: { binary_data_size: textCount * DIMENSION * 4 },
      },
    ],
  });
  const body = new Uint8Array(header.length + textCount * DIMENSION * 4);
  new TextEncoder().encodeInto(header, body);
  return {
    group: 'Triton framing',
    name: `read ${shape}`,
    per: 'batch',
    operationCount: 1,
    run: () => decodeInferReply(body, header.length, { signature, batch }),
  };
}

function signatureOf(inputDatatype: 'INT64' | 'INT32'): TritonSignature {
  return {
    idsInput: 'input_ids',
    maskInput: 'attention_mask',
    inputDatatype,
    outputs: { dense: 'sentence_embedding' },
    dimension: DIMENSION,
    padId: 1,
  };
}
