import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SQL, TransactionSQL } from 'bun';
import { CorpusError, wordsOf } from '../../corpus-error.ts';
import type { CorpusOptions } from '../../corpus-options.ts';
import {
  openDatabase,
  quoteName,
  quoteTable,
  shownAddress,
  tableBeside,
} from '../../stores/postgres.ts';
import { guardOf, type OutputSchema, type PartFacts, type Sink } from '../sink.ts';
import { StagedFile } from '../staged-file.ts';
import { createCopyEncoder, ownColumns, type TableColumn, tableColumns } from './copy-encoder.ts';
import { columnTypes, type FilledColumn, fillColumn, findColumn } from './filled-column.ts';

/**
 * A table with pgvector's types. A part is one transaction: the row that says it is committed, and
 * its rows by COPY. The manifest lies in a table beside it.
 *
 * @throws CorpusError CORPUS_FLAG_INVALID, CORPUS_SINK_FAILED.
 */
export async function createPostgresSink(options: CorpusOptions): Promise<Sink> {
  const { to, toTable = 'embeddings', toColumn, fields, heads } = options;
  const address = `${shownAddress(to)} ${toTable}${toColumn === undefined ? '' : `.${toColumn}`}`;
  const sql = openDatabase(to, { max: 2 });
  const table = quoteTable(toTable);
  // Each column of a table has a job of its own.
  const job = toColumn === undefined ? 'embed' : `${toColumn}_embed`;
  const parts = tableBeside(toTable, `${job}_parts`);
  const manifests = tableBeside(toTable, `${job}_manifest`);
  const staging = await mkdtemp(join(tmpdir(), 'embed-postgres-'));
  // Counted, since a queue may deal one part out twice to one process.
  let stagedCount = 0;
  let schema: OutputSchema | undefined;
  let vectorOid = 0;
  let column: FilledColumn | undefined;
  const guard = guardOf(
    (error) => `${address} cannot be written: ${wordsOf(error)}. What is committed stays.`,
  );
  async function commitPart(file: StagedFile, facts: PartFacts): Promise<void> {
    const columns = tableColumns(schema as OutputSchema);
    await sql.begin(async (transaction) => {
      const told = await transaction.unsafe(
        `insert into ${parts} values ($1, $2::text::jsonb) on conflict do nothing returning part`,
        [facts.part, JSON.stringify(facts)],
      );
      // Another worker has committed it; it waited for that, and the rows are the same.
      if (told.length === 0) return;
      const target = column === undefined ? table : 'embed_rows';
      if (column !== undefined) {
        await transaction.unsafe(
          `create temp table embed_rows (${definitions(columns)}) on commit drop`,
        );
      }
      const names = columns.map(({ name }) => quoteName(name)).join(', ');
      const writable = await transaction
        .unsafe(`copy ${target} (${names}) from stdin (format binary)`)
        .writable();
      // It closes the writer, or aborts it: one left open would hold the connection for ever.
      await Bun.file(file.path).stream().pipeTo(writable);
      if (column !== undefined) await fillColumn(transaction, toTable, column);
    });
  }

  return {
    address,
    check: (rows) =>
      guard(async () => {
        if (toColumn !== undefined) {
          column = await findColumn(sql, { ...options, toTable, toColumn }, rows);
          return;
        }
        await checkOwnTable(sql, { table, manifests, toTable });
        await checkColumns(sql, toTable, ['id', ...fields.carry], ownColumns({ heads, ...rows }));
      }),
    commitsAtOnce: 1,
    readManifest: () =>
      guard(async () => {
        if (!(await isThere(sql, manifests))) return undefined;
        const [row] = await sql.unsafe(`select manifest from ${manifests}`);
        return row?.manifest as string | undefined;
      }),
    // The tables come with it: a job that is refused leaves none behind.
    createManifest: (text) =>
      guard(() =>
        alone(sql, async (transaction) => {
          await transaction.unsafe(`create table if not exists ${manifests}
            (single boolean primary key default true check (single), manifest text not null)`);
          await transaction.unsafe(`create table if not exists ${parts}
            (part integer primary key, facts jsonb not null)`);
          const rows = await transaction.unsafe(
            `insert into ${manifests} values (true, $1) on conflict do nothing returning single`,
            [text],
          );
          return rows.length > 0;
        }),
      ),
    prepare: (given) =>
      guard(async () => {
        schema = given;
        await alone(sql, async (transaction) => {
          await transaction.unsafe('create extension if not exists vector');
          if (toColumn !== undefined) return;
          await transaction.unsafe(
            `create table if not exists ${table} (${definitions(tableColumns(given))})`,
          );
        });
        const type = given.dtype === 'float16' ? 'halfvec' : 'vector';
        const [row] = await sql.unsafe(`select '${type}'::regtype::oid::bigint as oid`);
        vectorOid = Number(row?.oid);
      }),
    committed: () =>
      guard(async () => {
        if (!(await isThere(sql, parts))) return new Set();
        const rows = (await sql.unsafe(`select part from ${parts}`)) as { part: number }[];
        return new Set(rows.map(({ part }) => Number(part)));
      }),
    isCommitted: (part) =>
      guard(async () => {
        const rows = await sql.unsafe(`select part from ${parts} where part = $1`, [part]);
        return rows.length > 0;
      }),
    factsOf: (part) =>
      guard(async () => {
        const [row] = await sql.unsafe(`select facts::text from ${parts} where part = $1`, [part]);
        return JSON.parse(row?.facts as string) as PartFacts;
      }),
    openPart: () =>
      guard(async () => {
        const path = join(staging, `${stagedCount++}.copy`);
        const file = await StagedFile.create(path, { isReadSoon: true });
        const encoder = createCopyEncoder({ file, schema: schema as OutputSchema, vectorOid });
        return {
          write: (rows) => guard(() => encoder.write(rows)),
          commit: (facts) =>
            guard(async () => {
              await encoder.finish();
              await file.finish();
              await commitPart(file, facts);
              await file.remove();
            }),
          abandon: () => file.remove(),
        };
      }),
    async close() {
      await sql.close();
      await rm(staging, { recursive: true, force: true });
    },
  };
}

/**
 * Makes what is not there, in a transaction that one job has at a time: `if not exists` looks first
 * and makes then, so that of two jobs that begin together one would fail.
 */
function alone<Result>(
  sql: SQL,
  work: (transaction: TransactionSQL) => Promise<Result>,
): Promise<Result> {
  return sql.begin(async (transaction) => {
    // Any number that nobody else locks by.
    await transaction.unsafe('select pg_advisory_xact_lock(1701667429)');
    return work(transaction);
  });
}

function definitions(columns: readonly TableColumn[]): string {
  return columns.map(({ name, type }) => `${quoteName(name)} ${type}`).join(', ');
}

/**
 * A table that is there and has rows, but no job, is somebody else's.
 *
 * @throws CorpusError CORPUS_JOB_DIFFERS.
 */
async function checkOwnTable(
  sql: SQL,
  { table, manifests, toTable }: { table: string; manifests: string; toTable: string },
): Promise<void> {
  const [there] = (await sql.unsafe(
    'select to_regclass($1) is not null and to_regclass($2) is null as foreign',
    [table, manifests],
  )) as { foreign: boolean }[];
  if (there?.foreign !== true) return;
  const rows = (await sql.unsafe(`select 1 from ${table} limit 1`)) as unknown[];
  if (rows.length === 0) return;
  const message =
    `--to-table ${toTable} has rows that are of no job of ours. Name a new table; ` +
    '--to-column fills a column of one that is there.';
  throw new CorpusError('CORPUS_JOB_DIFFERS', message);
}

async function isThere(sql: SQL, table: string): Promise<boolean> {
  const [row] = await sql.unsafe('select to_regclass($1) is not null as there', [table]);
  return (row as { there: boolean }).there;
}

/**
 * @param ofSource names of columns; what is in them nobody has read yet.
 * @throws CorpusError CORPUS_JOB_DIFFERS when the table is there and lacks a column.
 */
async function checkColumns(
  sql: SQL,
  toTable: string,
  ofSource: readonly string[],
  own: readonly TableColumn[],
): Promise<void> {
  const types = await columnTypes(sql, toTable);
  if (types === undefined) return;
  const wanted = [...ofSource.map((name) => ({ name, type: undefined })), ...own];
  const lacking = wanted.filter(({ name }) => !types.has(name));
  if (lacking.length === 0) return;
  const names = lacking
    .map(({ name, type }) => (type === undefined ? name : `${name} (${type})`))
    .join(', ');
  const message = `--to-table ${toTable} is there, and has no column ${names}. Name a new table.`;
  throw new CorpusError('CORPUS_JOB_DIFFERS', message);
}
