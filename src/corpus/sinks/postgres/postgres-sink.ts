import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SQL } from 'bun';
import { CorpusError, wordsOf } from '../../corpus-error.ts';
import type { CorpusOptions } from '../../corpus-options.ts';
import type { OutputSchema, PartFacts, Sink } from '../sink.ts';
import { StagedFile } from '../staged-file.ts';
import { createCopyEncoder, type TableColumn, tableColumns } from './copy-encoder.ts';

/**
 * A table with pgvector's types. A part is one transaction: the row that says it is committed, and
 * its rows by COPY. The manifest lies in a table beside it.
 *
 * @throws CorpusError CORPUS_FLAG_INVALID, CORPUS_SINK_FAILED.
 */
export async function createPostgresSink(options: CorpusOptions): Promise<Sink> {
  const { to, toTable = 'embeddings', toColumn } = options;
  // What stands in the address before the @ is nobody else's.
  const address = `${to.replace(/\/\/[^@/]*@/, '//')} ${toTable}`;
  const sql = new SQL(to, { max: 2, bigint: true });
  const table = quoteTable(toTable);
  const parts = quoteTable(`${toTable}_embed_parts`);
  const manifests = quoteTable(`${toTable}_embed_manifest`);
  const staging = await mkdtemp(join(tmpdir(), 'embed-postgres-'));
  // Counted, since a queue may deal one part out twice to one process.
  let stagedCount = 0;
  let schema: OutputSchema | undefined;
  let vectorOid = 0;
  const guard = async <Result>(work: () => Promise<Result>): Promise<Result> => {
    try {
      return await work();
    } catch (error) {
      if (error instanceof CorpusError) throw error;
      const message = `${address} cannot be written: ${wordsOf(error)}. What is committed stays.`;
      throw new CorpusError('CORPUS_SINK_FAILED', message, error);
    }
  };
  await guard(async () => {
    await sql.unsafe(`create table if not exists ${manifests}
      (single boolean primary key default true check (single), manifest text not null)`);
    await sql.unsafe(`create table if not exists ${parts}
      (part integer primary key, facts jsonb not null)`);
  });

  async function commitPart(file: StagedFile, facts: PartFacts): Promise<void> {
    const columns = tableColumns(schema as OutputSchema);
    await sql.begin(async (transaction) => {
      const told = await transaction.unsafe(
        `insert into ${parts} values ($1, $2::text::jsonb) on conflict do nothing returning part`,
        [facts.part, JSON.stringify(facts)],
      );
      // Another worker has committed it; it waited for that, and the rows are the same.
      if (told.length === 0) return;
      const target = toColumn === undefined ? table : 'embed_rows';
      if (toColumn !== undefined) {
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
      if (toColumn !== undefined) {
        const id = quoteName(schema?.id.name ?? 'id');
        await transaction.unsafe(`update ${table} set ${quoteName(toColumn)} = embed_rows.embedding
          from embed_rows where embed_rows."id" = ${table}.${id}`);
      }
    });
  }

  return {
    address,
    readManifest: () =>
      guard(async () => {
        const [row] = await sql.unsafe(`select manifest from ${manifests}`);
        return row?.manifest as string | undefined;
      }),
    createManifest: (text) =>
      guard(async () => {
        const rows = await sql.unsafe(
          `insert into ${manifests} values (true, $1) on conflict do nothing returning single`,
          [text],
        );
        return rows.length > 0;
      }),
    prepare: (given) =>
      guard(async () => {
        schema = given;
        await sql.unsafe('create extension if not exists vector');
        if (toColumn === undefined) {
          await sql.unsafe(
            `create table if not exists ${table} (${definitions(tableColumns(given))})`,
          );
        }
        const type = given.dtype === 'float16' ? 'halfvec' : 'vector';
        const [row] = await sql.unsafe(`select '${type}'::regtype::oid::bigint as oid`);
        vectorOid = Number(row?.oid);
      }),
    committed: () =>
      guard(async () => {
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

function definitions(columns: readonly TableColumn[]): string {
  return columns.map(({ name, type }) => `${quoteName(name)} ${type}`).join(', ');
}

/** A table's name as SQL takes it, with its schema where it has one. */
export function quoteTable(name: string): string {
  return name.split('.').map(quoteName).join('.');
}

/** A column's name as SQL takes it. */
export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
