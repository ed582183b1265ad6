import { float16Of } from '../../../reply/row-bytes.ts';
import { columnValue } from '../../job/records.ts';
import type { EncodedRow, OutputHead, OutputRow, OutputSchema } from '../sink.ts';

/** How values lie in the file. */
export type Physical = 'boolean' | 'int32' | 'int64' | 'float' | 'double' | 'text' | 'float16';

/** A column of the file. */
export interface ParquetColumn {
  readonly name: string;
  readonly physical: Physical;
  /** Lists around the values: 0 for a plain column. */
  readonly depth: 0 | 1 | 2;
  /** Length of every innermost list where all have the same; undefined otherwise. */
  readonly fixedLength?: number;
  /** Whether the text is JSON. */
  readonly isJson?: boolean;
  /** The values of a row, and the lengths of its lists; undefined for null. */
  readonly valueOf: (row: OutputRow) => Cell | undefined;
}

/** What a row has in a column. */
export interface Cell {
  readonly values: ArrayLike<unknown>;
  /** Of a list of lists: the length of each. */
  readonly lengths?: readonly number[];
}

/** The columns of a schema, in the order of the file. */
export function columnsOf(schema: OutputSchema): readonly ParquetColumn[] {
  const { id, carried, heads } = schema;
  const plain = [id, ...carried].map(({ name, kind }, index) => ({
    ...scalar(name, PHYSICAL_OF[kind], (row) =>
      columnValue(kind, index === 0 ? row.id : row.carried[index - 1]),
    ),
    isJson: kind === 'json',
  }));
  return [
    ...plain,
    scalar('token_count', 'int32', ({ encoded }) => encoded?.tokenCount),
    scalar('truncated', 'boolean', ({ encoded }) => encoded?.truncated),
    scalar('error', 'text', ({ error }) => error),
    ...heads.flatMap((head) => HEAD_COLUMNS[head](schema)),
  ];
}

function scalar(
  name: string,
  physical: Physical,
  read: (row: OutputRow) => unknown,
): ParquetColumn {
  const cellOf = (row: OutputRow): Cell | undefined => {
    const value = read(row);
    return value === undefined || value === null ? undefined : { values: [value] };
  };
  return { name, physical, depth: 0, valueOf: cellOf };
}

function vectors(
  column: Omit<ParquetColumn, 'valueOf'>,
  cellOf: (encoded: EncodedRow) => Cell | undefined,
): ParquetColumn {
  return {
    ...column,
    valueOf: ({ encoded }) => (encoded === undefined ? undefined : cellOf(encoded)),
  };
}

const HEAD_COLUMNS: Readonly<
  Record<OutputHead, (schema: OutputSchema) => readonly ParquetColumn[]>
> = {
  dense: ({ dtype, dimension }) => [
    vectors(
      { name: 'embedding', physical: FLOAT_OF[dtype], depth: 1, fixedLength: dimension },
      ({ dense }) => dense && { values: numbersOf(dtype, dense) },
    ),
  ],
  sparse: ({ dtype }) => [
    vectors(
      { name: 'sparse_indices', physical: 'int32', depth: 1 },
      ({ sparse }) => sparse && { values: sparse.indices },
    ),
    vectors(
      { name: 'sparse_values', physical: FLOAT_OF[dtype], depth: 1 },
      ({ sparse }) => sparse && { values: numbersOf(dtype, sparse.values) },
    ),
  ],
  multi_vector: ({ dtype, dimension }) => [
    vectors(
      { name: 'multi_vector', physical: FLOAT_OF[dtype], depth: 2, fixedLength: dimension },
      ({ multiVector }) =>
        multiVector && {
          values: numbersOf(dtype, multiVector.data),
          lengths: new Array<number>(multiVector.tokenCount).fill(dimension),
        },
    ),
  ],
};

const FLOAT_OF = { float32: 'float', float16: 'float16' } as const;

function numbersOf(dtype: OutputSchema['dtype'], values: Float32Array): ArrayLike<number> {
  return dtype === 'float16' ? float16Of(values) : values;
}

const PHYSICAL_OF = {
  int64: 'int64',
  double: 'double',
  boolean: 'boolean',
  string: 'text',
  json: 'text',
} as const satisfies Record<OutputSchema['id']['kind'], Physical>;
