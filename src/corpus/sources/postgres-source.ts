import { SQL } from 'bun';
import { CorpusError, wordsOf } from '../corpus-error.ts';
import type { CorpusOptions } from '../corpus-options.ts';
import { quoteName, quoteTable } from '../sinks/postgres/postgres-sink.ts';
import type { Position, RawRecord, Source } from './source.ts';

/** Rows that are fetched at a time. */
const PAGE_ROWS = 1000;

/**
 * A table, or a query in brackets, in the order of its key. Pages begin after the last key and not
 * at an offset, so the millionth costs what the first does. All of a run sees one snapshot; whether
 * a later run sees the same rows, the manifest's hashes say.
 *
 * @throws CorpusError CORPUS_FLAG_INVALID, CORPUS_SOURCE_INVALID.
 */
export async function openPostgresSource(options: CorpusOptions): Promise<Source> {
  const { sources, table, fields } = options;
  const [address = ''] = sources;
  const { id: key } = fields;
  if (sources.length > 1 || table === undefined || key === undefined) {
    const message =
      'a postgres:// source stands alone, with --table and with --id, a unique and indexed column.';
    throw new CorpusError('CORPUS_FLAG_INVALID', message);
  }
  const name = `${address.replace(/\/\/[^@/]*@/, '//')} ${table}`;
  const failed = (error: unknown): CorpusError =>
    new CorpusError('CORPUS_SOURCE_INVALID', `${name} cannot be read: ${wordsOf(error)}.`, error);
  const sql = new SQL(address, { max: 1, bigint: true });
  const connection = await sql
    .reserve()
    .then(async (reserved) => {
      await reserved.unsafe('begin isolation level repeatable read read only');
      return reserved;
    })
    .catch((error) => {
      throw failed(error);
    });
  const from = table.startsWith('(') ? `${table} as source` : quoteTable(table);
  const columns = [...new Set([key, ...fields.text, ...fields.carry])].map(quoteName).join(', ');
  const page = async (condition: string, values: unknown[]): Promise<Record<string, unknown>[]> => {
    const text = `select ${columns} from ${from} ${condition} order by ${quoteName(key)} limit ${PAGE_ROWS}`;
    return (await connection.unsafe(text, values)) as Record<string, unknown>[];
  };
  return {
    inputs: [
      {
        name,
        isSeekable: true,
        // Nothing short of reading tells whether a table has changed.
        look: async () => ({ bytes: 0, version: crypto.randomUUID() }),
        async *read(start) {
          try {
            let rows = await (start === undefined
              ? page('', [])
              : page(`where ${quoteName(key)} >= $1`, [start]));
            while (rows.length > 0) {
              const last = keyOf(rows.at(-1), key);
              yield rows.map((row): RawRecord => ({ position: keyOf(row, key), fields: row }));
              rows = await page(`where ${quoteName(key)} > $1`, [last]);
            }
          } catch (error) {
            throw failed(error);
          }
        },
      },
    ],
    async close() {
      await connection.unsafe('rollback').catch(() => undefined);
      connection.release();
      await sql.close();
    },
  };
}

function keyOf(row: Record<string, unknown> | undefined, key: string): Position {
  const value = row?.[key];
  if (typeof value === 'number' || typeof value === 'string') return value;
  // Beyond what a double holds exactly, as digits: the database reads them again.
  return typeof value === 'bigint' && Number.isSafeInteger(Number(value))
    ? Number(value)
    : String(value);
}
