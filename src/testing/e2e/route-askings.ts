import { Unpackr, unpack } from 'msgpackr';
import { quantizeRow } from '../../vectors/quantize.ts';

/** How each route is asked for texts, and where its reply has their numbers. */

/** A text, and what the model gives to it. */
export interface KnownText {
  readonly text: string;
  /** Undefined for a text of which nothing is left, with EMPTY_TEXTS=null. */
  readonly row: Float32Array<ArrayBuffer> | undefined;
  readonly multiVector: Float32Array<ArrayBuffer>;
}

/** A row, or a score alone; null where a text has none. */
export type Numbers = ArrayLike<number> | null;

/** One way to ask for texts, and to read what was answered. */
export interface Asking {
  readonly path: string;
  readonly accept?: string;
  readonly textsMax: number;
  /** What stands for an empty text; undefined where none is sent. */
  readonly empty?: 'null' | 'zeros';
  body(texts: readonly string[]): object;
  read(reply: Response, textCount: number): Promise<readonly Numbers[]>;
  /** What is right for a text that is not empty; its row unless told. */
  right?(known: KnownText, query: KnownText): ArrayLike<number>;
  /** How far off a number may be: scores are sums. */
  readonly tolerance?: number;
  /** Whether the first text is a query that has no answer of its own. */
  readonly hasQuery?: boolean;
}

const json = async (reply: Response) => JSON.parse(await reply.text());
/** Empty for a text that has none. */
export const rowOf = ({ row }: KnownText): Float32Array<ArrayBuffer> => row ?? new Float32Array(0);

/** Consecutive parts of a binary reply. */
function partsOf<Values extends Float32Array | Float16Array | Int8Array>(
  values: Values,
  count: number,
): Values[] {
  const length = values.length / count;
  return Array.from({ length: count }, (_, at) =>
    values.subarray(at * length, (at + 1) * length),
  ) as Values[];
}

const floatsOf = (bytes: Uint8Array): Float32Array =>
  new Float32Array(Uint8Array.from(bytes).buffer);
const floatsOfBase64 = (text: string): Float32Array => floatsOf(Buffer.from(text, 'base64'));

const raw = async (reply: Response): Promise<ArrayBuffer> => await reply.arrayBuffer();

const float16 = (known: KnownText): Float16Array => Float16Array.from(rowOf(known));

const dot = (known: KnownText, query: KnownText): readonly number[] => {
  const [row, other] = [rowOf(known), rowOf(query)];
  let sum = 0;
  for (let at = 0; at < row.length; at++) sum += row[at] * other[at];
  return [sum];
};

const ranked = (
  scores: readonly { readonly index: number; readonly score: number }[],
): Numbers[] => {
  const inOrder: Numbers[] = [];
  for (const { index, score } of scores) inOrder[index] = [score];
  return inOrder;
};

/** The keys of an array in numpy's layout are bytes. */
const MAPS = new Unpackr({ mapsAsObjects: false });

const OCTETS = 'application/octet-stream';
const MSGPACK = 'application/msgpack';

/** Each route that has rows or scores, in each format. */
export const ASKINGS: readonly Asking[] = [
  {
    path: '/encode',
    textsMax: 40,
    empty: 'null',
    body: (query) => ({ query }),
    read: async (reply) => (await json(reply)).embeddings,
  },
  {
    path: '/encode',
    textsMax: 1,
    body: ([query]) => ({ query }),
    read: async (reply) => [(await json(reply)).embedding],
  },
  {
    path: '/encode',
    accept: OCTETS,
    textsMax: 300,
    empty: 'zeros',
    body: (query) => ({ query }),
    read: async (reply, count) => partsOf(new Float32Array(await raw(reply)), count),
  },
  {
    path: '/encode',
    accept: `${OCTETS}; dtype=float16`,
    textsMax: 300,
    body: (query) => ({ query }),
    read: async (reply, count) => partsOf(new Float16Array(await raw(reply)), count),
    right: float16,
  },
  {
    path: '/encode',
    accept: `${OCTETS}; dtype=int8`,
    textsMax: 100,
    body: (query) => ({ query, batch_size: 7 }),
    read: async (reply, count) => partsOf(new Int8Array(await raw(reply)), count),
    right: (known) => quantizeRow(rowOf(known), 'int8'),
  },
  {
    path: '/encode',
    accept: MSGPACK,
    textsMax: 20,
    body: (query) => ({ query, outputs: ['dense', 'multi_vector'] }),
    read: async (reply, count) => {
      const { embeddings, multi_vector } = unpack(await reply.bytes());
      const rows = partsOf(floatsOf(embeddings.data), count);
      return rows.map((row, at) => [...row, ...floatsOf(multi_vector[at].data)]);
    },
    right: (known) => [...rowOf(known), ...known.multiVector],
  },
  {
    path: '/encode',
    accept: `${MSGPACK}; dtype=float16`,
    textsMax: 20,
    body: (query) => ({ query, outputs: ['multi_vector'] }),
    read: async (reply) => {
      const { multi_vector } = unpack(await reply.bytes());
      return multi_vector.map(
        ({ data }: { data: Uint8Array }) => new Float16Array(Uint8Array.from(data).buffer),
      );
    },
    right: (known) => Float16Array.from(known.multiVector),
  },
  {
    path: '/encode',
    accept: `${MSGPACK}; layout=numpy; dtype=float16`,
    textsMax: 200,
    body: (query) => ({ query }),
    read: async (reply, count) => {
      const { embeddings } = Object.fromEntries(MAPS.unpack(await reply.bytes()));
      const data: Uint8Array = [...embeddings.values()].at(-1);
      return partsOf(new Float16Array(Uint8Array.from(data).buffer), count);
    },
    right: float16,
  },
  {
    path: '/v1/embeddings',
    textsMax: 30,
    empty: 'null',
    body: (input) => ({ input, model: 'bge-m3' }),
    read: async (reply) => embeddingsOf(await json(reply)),
  },
  {
    path: '/v1/embeddings',
    textsMax: 200,
    body: (input) => ({ input, model: 'bge-m3', encoding_format: 'base64' }),
    read: async (reply) =>
      embeddingsOf<string>(await json(reply)).map((text) => floatsOfBase64(text)),
  },
  {
    path: '/v1/embeddings',
    textsMax: 50,
    body: (input) => ({ input, model: 'bge-m3', output_dtype: 'ubinary' }),
    read: async (reply) => embeddingsOf(await json(reply)),
    right: (known) => quantizeRow(rowOf(known), 'ubinary'),
  },
  {
    path: '/embed',
    textsMax: 20,
    empty: 'null',
    body: (inputs) => ({ inputs }),
    read: async (reply) => (await reply.json()) as number[][],
  },
  {
    path: '/embed_all',
    textsMax: 4,
    body: (inputs) => ({ inputs }),
    read: async (reply) => ((await reply.json()) as number[][][]).map((rows) => rows.flat()),
    right: ({ multiVector }) => multiVector,
  },
  {
    path: '/api/embed',
    textsMax: 20,
    body: (input) => ({ input, model: 'bge-m3' }),
    read: async (reply) => (await json(reply)).embeddings,
  },
  {
    path: '/api/embeddings',
    textsMax: 1,
    body: ([prompt]) => ({ prompt, model: 'bge-m3' }),
    read: async (reply) => [(await json(reply)).embedding],
  },
  {
    path: '/v2/embed',
    textsMax: 20,
    body: (texts) => ({
      ...{ texts, model: 'bge-m3', input_type: 'search_query' },
      embedding_types: ['int8', 'float', 'base64'],
    }),
    read: async (reply) => {
      const { float, base64 } = (await json(reply)).embeddings as {
        float: number[][];
        base64: string[];
      };
      return float.map((row, at) => {
        const again = floatsOfBase64(base64[at]);
        return row.every((value, index) => again[index] === Math.fround(value)) ? row : [];
      });
    },
  },
  {
    path: '/vectors',
    textsMax: 10,
    body: (texts) => ({ texts, config: {} }),
    read: async (reply) => (await json(reply)).vectors,
  },
  {
    path: '/v1/encode/bge-m3',
    textsMax: 10,
    body: (texts) => ({ items: texts.map((text) => ({ text })) }),
    read: async (reply) =>
      ((await json(reply)) as { items: { dense: { values: number[] } }[] }).items.map(
        ({ dense }) => dense.values,
      ),
  },
  {
    path: '/score',
    textsMax: 30,
    hasQuery: true,
    body: ([query, ...texts]) => ({ query, texts, outputs: ['dense'] }),
    read: async (reply) =>
      ((await json(reply)) as { scores: { dense: number[] } }).scores.dense.map((score) => [score]),
    right: dot,
    tolerance: 1e-5,
  },
  {
    path: '/rerank',
    textsMax: 30,
    hasQuery: true,
    body: ([query, ...texts]) => ({ query, texts, outputs: ['dense'] }),
    read: async (reply) => ranked((await reply.json()) as { index: number; score: number }[]),
    right: dot,
    tolerance: 1e-5,
  },
];

function embeddingsOf<Row = number[]>(reply: unknown): Row[] {
  return (reply as { data: { embedding: Row }[] }).data.map(({ embedding }) => embedding);
}
