import { deterministicEmbedding } from './triton/deterministic-embedding.ts';

/**
 * What an infer request held, read here by hand: this code shares nothing with the codec of the
 * server.
 */
export interface FakeInferRequest {
  readonly datatype: string;
  readonly shape: readonly number[];
  /** Ids where the mask is 1, one array a text. */
  readonly texts: readonly number[][];
  /** What is wrong with the request, by the protocol's rules; empty when nothing is. */
  readonly problems: readonly string[];
}

interface InputHeader {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly parameters: { readonly binary_data_size: number };
}

/** Reads an infer request and judges it. Never throws. */
export function readInferRequest(
  body: Buffer,
  headers: ReadonlyMap<string, string>,
  model: { datatype: string; padId: number },
): FakeInferRequest {
  const problems: string[] = [];
  if (headers.get('accept-encoding') !== 'identity') problems.push('accept-encoding: not identity');
  const headerBytes = Number(headers.get('inference-header-content-length'));
  let inputs: readonly InputHeader[] = [];
  try {
    inputs = JSON.parse(body.subarray(0, headerBytes).toString()).inputs;
  } catch {
    problems.push('the JSON header cannot be read');
  }
  const [ids, mask] = inputs;
  if (ids === undefined || mask === undefined || !/mask/.test(mask.name)) {
    return { datatype: '', shape: [], texts: [], problems: [...problems, 'not two inputs'] };
  }
  const { datatype, shape } = ids;
  if (datatype !== model.datatype || mask.datatype !== datatype) problems.push('wrong datatype');
  if (`${mask.shape}` !== `${shape}`) problems.push('ids and mask have unlike shapes');
  const width = datatype === 'INT64' ? 8 : 4;
  const [textCount = 0, length = 0] = shape;
  const size = textCount * length * width;
  const isSized = [ids, mask].every((input) => input.parameters.binary_data_size === size);
  if (!isSized || body.length !== headerBytes + 2 * size) {
    return { datatype, shape, texts: [], problems: [...problems, 'sizes do not match the shape'] };
  }
  const read = (offset: number): number =>
    width === 8 ? Number(body.readBigInt64LE(offset)) : body.readInt32LE(offset);
  const texts = Array.from({ length: textCount }, (_, row) => {
    const text: number[] = [];
    for (let at = 0; at < length; at++) {
      const offset = headerBytes + (row * length + at) * width;
      const id = read(offset);
      const isReal = read(offset + size) === 1;
      if (isReal && text.length < at) problems.push(`text ${row} has a hole in its mask`);
      if (isReal) text.push(id);
      else if (id !== model.padId) problems.push(`text ${row} is padded with ${id}`);
    }
    return text;
  });
  return { datatype, shape, texts, problems };
}

/** A reply that is still right; a lie changes one part of it before it is written. */
export interface FakeReply {
  name: string;
  datatype: string;
  shape: number[];
  data: Buffer;
  /** What the header says of `data`; its true length unless changed. */
  binaryDataSize: number;
  headerText?: string;
  /** Value of the HTTP header; undefined leaves the header out. */
  headerLength: number | undefined | 'true';
}

/** The right reply: the deterministic rows. */
export function rightReply(
  texts: readonly number[][],
  output: { name: string; dimension: number },
): FakeReply {
  const rows = texts.map((text) => deterministicEmbedding(text, output.dimension));
  const data = Buffer.concat(rows.map((row) => new Uint8Array(row.buffer)));
  return {
    name: output.name,
    datatype: 'FP32',
    shape: [texts.length, output.dimension],
    data,
    binaryDataSize: data.length,
    headerLength: 'true',
  };
}

/** The bytes of a reply, and its JSON part's length as the HTTP header shall claim it. */
export function writeReply(reply: FakeReply): { body: Buffer; headerLength: number | undefined } {
  const header = Buffer.from(
    reply.headerText ??
      JSON.stringify({
        model_name: 'fake',
        model_version: '1',
        outputs: [
          {
            name: reply.name,
            datatype: reply.datatype,
            shape: reply.shape,
            parameters: { binary_data_size: reply.binaryDataSize },
          },
        ],
      }),
  );
  const headerLength = reply.headerLength === 'true' ? header.length : reply.headerLength;
  return { body: Buffer.concat([header, reply.data]), headerLength };
}
