import type { ReservedSQL } from 'bun';
import { CorpusError, wordsOf } from '../corpus-error.ts';
import type { CorpusOptions } from '../corpus-options.ts';
import { castOf, openDatabase, quoteName, quoteTable, shownAddress } from '../stores/postgres.ts';
import { parseExactJson } from './exact-json.ts';
import type { RawRecord, Source } from './source.ts';

/** Rows that are fetched at a time. */
const PAGE_ROWS = 1000;

/** How values are written that come as text: the same everywhere, and nothing cut off. */
const SESSION = `set local timezone to 'UTC'; set local datestyle to 'ISO, YMD';
set local intervalstyle to 'postgres'; set local bytea_output to 'hex';
set local extra_float_digits to 1`;

/**
 * A job reads for hours in one transaction, and waits for its servers in between. Limits that keep
 * others from that are put off for it, those that this server has; pg_dump does the same.
 */
const NO_TIME_LIMITS = `select set_config(name, '0', true) from pg_settings where name in
('statement_timeout', 'lock_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout')`;

/** Not asked of a query, whose tables are not known here. */
const IS_GUARDED = `select row_security_active(to_regclass($1)) as guarded`;
const GUARDED =
  'has row security: rows that this role may not see are left out; a role with BYPASSRLS sees all';

/** What a row has beside its columns: its key as text, which a page begins after. */
const POSITION = 'embed_position';

/**
 * A table, or a query in brackets, in the order of its key. Pages begin after the last key and not
 * at an offset, so the millionth costs what the first does. All of a run sees one snapshot; whether
 * a later run sees the same rows, the manifest's hashes say.
 *
 * A key that is null or comes twice would cost rows at the ends of pages, so it is refused.
 *
 * @param say tells of rows that this role may not see.
 * @throws CorpusError CORPUS_FLAG_INVALID, CORPUS_SOURCE_INVALID.
 */
export async function openPostgresSource(
  options: CorpusOptions,
  say: (words: string) => void,
): Promise<Source> {
  const { sources, table, fields } = options;
  const [address = ''] = sources;
  const { id } = fields;
  if (sources.length > 1 || table === undefined || id === undefined) {
    const message =
      'a postgres:// source stands alone, with --table and with --id, a unique and indexed column.';
    throw new CorpusError('CORPUS_FLAG_INVALID', message);
  }
  const name = `${shownAddress(address)} ${table}`;
  const failed = (error: unknown): CorpusError => {
    if (error instanceof CorpusError) return error;
    const message = `${name} cannot be read: ${wordsOf(error)}.`;
    return new CorpusError('CORPUS_SOURCE_INVALID', message, error);
  };
  const sql = openDatabase(address, { max: 1 });
  const connection = await sql
    .reserve()
    .then(async (reserved) => {
      await reserved.unsafe('begin isolation level repeatable read read only');
      await reserved.unsafe(SESSION);
      await reserved.unsafe(NO_TIME_LIMITS);
      if (isQuery(table)) return reserved;
      const [row] = await reserved.unsafe(IS_GUARDED, [quoteTable(table)]);
      if (row?.guarded === true) say(`${name} ${GUARDED}`);
      return reserved;
    })
    .catch((error) => {
      throw failed(error);
    });
  const names = [...new Set([id, ...fields.text, ...fields.carry])];
  const reader = new PageReader({ connection, from: tableOf(table), id, names });
  return {
    inputs: [
      {
        name,
        isSeekable: true,
        // Nothing short of reading tells whether a table has changed.
        look: async () => ({ bytes: 0, version: crypto.randomUUID() }),
        async *read(start) {
          try {
            yield* reader.read(start === undefined ? undefined : String(start));
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

function isQuery(table: string): boolean {
  return /^\s*(\(|(select|with|values)\s)/i.test(table);
}

/** A query counts as one without its brackets too, and with the semicolon that ends it. */
function tableOf(table: string): string {
  const query = table.trim().replace(/;$/, '');
  if (query.startsWith('(')) return `${query.replace(/;\s*\)$/, ')')} as source`;
  return isQuery(query) ? `(${query}) as source` : quoteTable(table);
}

class PageReader {
  readonly #connection: ReservedSQL;
  readonly #from: string;
  readonly #id: string;
  readonly #names: readonly string[];

  constructor(options: {
    connection: ReservedSQL;
    from: string;
    id: string;
    names: readonly string[];
  }) {
    this.#connection = options.connection;
    this.#from = options.from;
    this.#id = options.id;
    this.#names = options.names;
  }

  /** @param start a key as text, or undefined for the first. */
  async *read(start: string | undefined): AsyncGenerator<readonly RawRecord[], void, undefined> {
    const types = await this.#types();
    if (types === undefined) return;
    if (start === undefined) await this.#checkNoNull();
    const key = quoteName(this.#id);
    const columns = this.#names.map((name) => selected(name, types[name] as string)).join(', ');
    const page = async (compare: string, position: string | undefined) =>
      (await this.#connection.unsafe(
        `select ${columns}, source.${key}::text as ${POSITION}
        from (select * from ${this.#from}) as source
        ${position === undefined ? '' : `where source.${key} ${compare} $1::text::${castOf(types[this.#id] as string)}`}
        order by source.${key} limit ${PAGE_ROWS}`,
        position === undefined ? [] : [position],
      )) as Record<string, string | null>[];
    let last: string | undefined;
    let rows = await page('>=', start);
    while (rows.length > 0) {
      const records: RawRecord[] = [];
      for (const row of rows) {
        const position = row[POSITION] as string;
        if (position === last) throw notUnique(this.#id, `${position} comes again`);
        last = position;
        records.push({ position, fields: fieldsOf(row, this.#names, types) });
      }
      yield records;
      rows = await page('>', last);
    }
  }

  /** The type of each column; undefined where there is no row. */
  async #types(): Promise<Readonly<Record<string, string>> | undefined> {
    const asked = this.#names.map((name) => `pg_typeof(${quoteName(name)})::text`);
    const text = `select ${asked.map((one, at) => `${one} as t${at}`).join(', ')} from ${this.#from} limit 1`;
    const [row] = (await this.#connection.unsafe(text)) as Record<string, string>[];
    if (row === undefined) return undefined;
    return Object.fromEntries(this.#names.map((name, at) => [name, row[`t${at}`] as string]));
  }

  async #checkNoNull(): Promise<void> {
    const text = `select 1 from ${this.#from} where ${quoteName(this.#id)} is null limit 1`;
    const rows = (await this.#connection.unsafe(text)) as unknown[];
    if (rows.length > 0) throw notUnique(this.#id, 'it is null in some rows');
  }
}

function notUnique(id: string, why: string): Error {
  return new Error(
    `--id ${id} has to be unique and not null, and ${why}; columns that are so together: ` +
      `--table "(select a || '-' || b as id, text from t)"`,
  );
}

const TEXTS: ReadonlySet<string> = new Set(['text', 'character varying', 'character']);
const INTEGERS: ReadonlySet<string> = new Set(['smallint', 'integer', 'bigint', 'oid']);
const FLOATS: ReadonlySet<string> = new Set(['real', 'double precision']);

/**
 * A column as text. Of Bun's own values a time has lost its microseconds and jsonb its digits, and
 * `real` and lists of integers are others without a parameter than with one, so the first page than
 * the next (`findings/bun-sql-parameters-change-values.sh`).
 */
function selected(name: string, type: string): string {
  const column = `source.${quoteName(name)}`;
  if (TEXTS.has(type)) return column;
  const text = type.endsWith('[]') ? `to_json(${column})::text` : `${column}::text`;
  return `${text} as ${quoteName(name)}`;
}

function fieldsOf(
  row: Readonly<Record<string, string | null>>,
  names: readonly string[],
  types: Readonly<Record<string, string>>,
): Record<string, unknown> {
  return Object.fromEntries(
    names.map((name) => {
      const text = row[name] ?? null;
      return [name, text === null ? null : valueOfText(text, types[name] as string)];
    }),
  );
}

function valueOfText(text: string, type: string): unknown {
  if (TEXTS.has(type)) return text;
  if (INTEGERS.has(type)) {
    const number = Number(text);
    return Number.isSafeInteger(number) ? number : BigInt(text);
  }
  if (FLOATS.has(type)) return Number(text);
  if (type === 'boolean') return text === 'true';
  if (type === 'json' || type === 'jsonb' || type.endsWith('[]')) return parseExactJson(text);
  // As ISO 8601 and our other sources have it.
  if (type.startsWith('timestamp')) return text.replace(' ', 'T').replace(/\+00$/, 'Z');
  return text;
}
