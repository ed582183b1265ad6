/**
 * One batch to a real Triton, its bytes written and read here by hand: a second opinion on the wire
 * codec, with which it shares nothing.
 *
 * @param options.texts token ids of each text, unpadded; borrowed. Padded with id 1 and mask 0 to
 *   `paddedTo`, or to the longest.
 * @returns status, and for 200 the parsed header and the float32 of the first output, rows one
 *   after the other.
 */
export async function inferByHand(options: {
  url: string;
  model: string;
  texts: readonly (readonly number[])[];
  datatype: 'INT64' | 'INT32';
  paddedTo?: number;
  inputs?: { ids: string; mask: string };
  /** All, unless told. */
  outputs?: readonly string[];
}): Promise<{ status: number; body: unknown; numbers: Float32Array<ArrayBuffer> }> {
  const { url, model, texts, datatype } = options;
  const names = options.inputs ?? { ids: 'input_ids', mask: 'attention_mask' };
  const length = options.paddedTo ?? Math.max(...texts.map((text) => text.length));
  const shape = [texts.length, length];
  const pad = <T>(values: readonly T[], filler: T) =>
    [...values, ...Array<T>(length).fill(filler)].slice(0, length);
  const ids = texts.flatMap((text) => pad(text, 1));
  const mask = texts.flatMap((text) => pad(Array<number>(text.length).fill(1), 0));
  const blobs = [littleEndian(ids, datatype), littleEndian(mask, datatype)];
  const tensor = (name: string, blob: ArrayBuffer | undefined) => ({
    name,
    shape,
    datatype,
    parameters: { binary_data_size: blob?.byteLength },
  });
  const header = JSON.stringify({
    inputs: [tensor(names.ids, blobs[0]), tensor(names.mask, blobs[1])],
    parameters: { binary_data_output: true },
    outputs: options.outputs?.map((name) => ({ name, parameters: { binary_data: true } })),
  });
  const reply = await fetch(`${url}/v2/models/${model}/infer`, {
    method: 'POST',
    keepalive: false,
    headers: {
      'Inference-Header-Content-Length': String(new TextEncoder().encode(header).byteLength),
      'Content-Type': 'application/octet-stream',
      'Accept-Encoding': 'identity',
    },
    body: new Blob([header, ...blobs]),
  });
  const bytes = await reply.arrayBuffer();
  const headerBytes = Number(
    reply.headers.get('Inference-Header-Content-Length') ?? bytes.byteLength,
  );
  return {
    status: reply.status,
    body: JSON.parse(new TextDecoder().decode(bytes.slice(0, headerBytes))),
    numbers: new Float32Array(bytes.slice(headerBytes)),
  };
}

function littleEndian(values: readonly number[], datatype: 'INT64' | 'INT32'): ArrayBuffer {
  const size = datatype === 'INT64' ? 8 : 4;
  const view = new DataView(new ArrayBuffer(values.length * size));
  for (const [index, value] of values.entries()) {
    if (datatype === 'INT64') view.setBigInt64(index * 8, BigInt(value), true);
    else view.setInt32(index * 4, value, true);
  }
  return view.buffer;
}
