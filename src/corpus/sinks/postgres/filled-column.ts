import type { SQL, TransactionSQL } from 'bun';
import { CorpusError } from '../../corpus-error.ts';
import type { CorpusOptions } from '../../corpus-options.ts';
import { castOf, quoteName, quoteTable } from '../../stores/postgres.ts';
import type { OutputSchema } from '../sink.ts';

/** A column of a table that is there, and the key by which its rows are found. */
export interface FilledColumn {
  readonly name: string;
  readonly key: string;
  readonly keyType: string;
}

/**
 * Looks at the table before anything is encoded. A column of another type is refused: Postgres
 * would put the numbers as words into a column of text, over what is there.
 *
 * @throws CorpusError CORPUS_FLAG_INVALID that says what is wrong, and the SQL that makes it right.
 */
export async function findColumn(
  sql: SQL,
  options: Pick<CorpusOptions, 'fields'> & { toTable: string; toColumn: string },
  rows: Pick<OutputSchema, 'dtype' | 'dimension'>,
): Promise<FilledColumn> {
  const { toTable, toColumn, fields } = options;
  const types = await columnTypes(sql, toTable);
  if (types === undefined) throw invalid(`--to-table ${toTable}: there is no such table.`);
  const wanted = `${rows.dtype === 'float16' ? 'halfvec' : 'vector'}(${rows.dimension})`;
  const type = types.get(toColumn);
  const add = `alter table ${quoteTable(toTable)} add column ${quoteName(toColumn)} ${wanted};`;
  if (type === undefined) throw invalid(`--to-column ${toColumn}: no such column. Make it: ${add}`);
  const [, dimension] = /^(?:.*\.)?(?:vector|halfvec)(?:\((\d+)\))?$/.exec(type) ?? [type, 'none'];
  if (dimension !== undefined && Number(dimension) !== rows.dimension) {
    throw invalid(`--to-column ${toColumn} is ${type}; the rows are ${wanted}. Name another one.`);
  }
  // Where the records call it otherwise, the table's key is as a rule its id.
  const key = [fields.id ?? '', 'id'].find((name) => types.has(name));
  if (key !== undefined) return { name: toColumn, key, keyType: plainType(types.get(key) ?? '') };
  throw invalid(
    `--to-column finds rows by --id: ${toTable} has no column ${fields.id}, and no id.`,
  );
}

/** Names and types of the columns of a table; undefined where there is no such table. */
export async function columnTypes(
  sql: SQL,
  table: string,
): Promise<ReadonlyMap<string, string> | undefined> {
  const rows = (await sql.unsafe(
    `select attname::text as name, format_type(atttypid, atttypmod) as type from pg_attribute
    where attrelid = to_regclass($1) and attnum > 0 and not attisdropped`,
    [quoteTable(table)],
  )) as { name: string; type: string }[];
  return rows.length === 0 ? undefined : new Map(rows.map(({ name, type }) => [name, type]));
}

/** Without its length, which a comparison does not want. */
function plainType(type: string): string {
  return castOf(type.replace(/\(.*\)/, ''));
}

/**
 * Gives the rows of the table their vectors from `embed_rows`, within its transaction.
 *
 * @throws CorpusError CORPUS_SINK_FAILED when an id has no row: its vector would be lost.
 */
export async function fillColumn(
  transaction: TransactionSQL,
  toTable: string,
  { name, key, keyType }: FilledColumn,
): Promise<void> {
  const same = `target.${quoteName(key)} = embed_rows."id"::text::${keyType}`;
  const table = quoteTable(toTable);
  const [lost] = (await transaction.unsafe(
    `select count(*)::int as count, min(coalesce("id"::text, 'null')) as first from embed_rows
    where not exists (select 1 from ${table} as target where ${same})`,
  )) as { count: number; first: string }[];
  if (lost !== undefined && lost.count > 0) {
    const message = `${toTable} has no row for ${lost.count} ids of a part, ${lost.first} is one.`;
    throw new CorpusError('CORPUS_SINK_FAILED', message);
  }
  await transaction.unsafe(
    `update ${table} as target set ${quoteName(name)} = embed_rows.embedding
    from embed_rows where ${same}`,
  );
}

function invalid(message: string): CorpusError {
  return new CorpusError('CORPUS_FLAG_INVALID', message);
}
