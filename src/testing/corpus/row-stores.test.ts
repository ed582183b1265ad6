import { Database } from 'bun:sqlite';
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startHeadsServer } from '../clients/heads-server.ts';
import type { RunningServer } from '../start-server.ts';
import { STORES_VENV_DIRECTORY } from './readers-venv.ts';
import { runStore } from './run-readers.ts';
import { startPostgres } from './start-postgres.ts';

/**
 * Integer and binary rows of the server, searched by real stores: the nearest ones and their
 * distances are those that are computed here from the same bytes, by definition. Planted and
 * caught: queries as `binary` or `uint8` where the rows are `ubinary` or `int8`.
 */

setDefaultTimeout(60_000);

const SUBJECTS = ['аренда', 'иск', 'договор', 'неустойка', 'залог', 'поставка', 'давность', 'суд'];
const VERBS = ['расторгнут', 'подан', 'заключён', 'взыскана', 'прекращён', 'просрочена'];
const TEXTS = SUBJECTS.flatMap((subject) => VERBS.map((verb) => `${subject} ${verb} в срок`));
const QUERIES = SUBJECTS.map((subject) => `${subject} в суде`);
const COUNT = 5;

let server: RunningServer;
let folder: string;

beforeAll(async () => {
  server = await startHeadsServer();
  folder = mkdtempSync(join(tmpdir(), 'row-stores-'));
});

afterAll(async () => {
  await server?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Rows as raw bytes. */
async function rowsOf(texts: readonly string[], form: string): Promise<Uint8Array[]> {
  const headers = { accept: `application/octet-stream; dtype=${form}` };
  const body = JSON.stringify({ query: texts });
  const reply = await fetch(`${server.url}/encode`, { method: 'POST', headers, body });
  const [, width = 0] = (reply.headers.get('x-embedding-shape') ?? '').split(',').map(Number);
  const bytes = await reply.bytes();
  return texts.map((_, at) => bytes.slice(at * width, (at + 1) * width));
}

const bitsOf = (row: Uint8Array): string =>
  Array.from(row, (byte) => byte.toString(2).padStart(8, '0')).join('');

function hamming(a: Uint8Array, b: Uint8Array): number {
  const [left, right] = [bitsOf(a), bitsOf(b)];
  return [...left].filter((bit, at) => bit !== right[at]).length;
}

function cosineDistance(a: Uint8Array, b: Uint8Array): number {
  const [left, right] = [new Int8Array(a.buffer), new Int8Array(b.buffer)];
  const dot = left.reduce((sum, value, at) => sum + value * right[at], 0);
  return 1 - dot / (Math.hypot(...left) * Math.hypot(...right));
}

/** Equal distances may come in any order, so each id is held against its own distance. */
function expectNearest(
  found: { ids: number[][]; distances: number[][] },
  right: { rows: Uint8Array[]; queries: Uint8Array[]; distance: typeof hamming },
): void {
  const { rows, queries, distance } = right;
  for (const [at, query] of queries.entries()) {
    const all = rows.map((row) => distance(query, row)).sort((a, b) => a - b);
    const own = found.ids[at].map((id) => distance(query, rows[id]));
    expect(new Set(found.ids[at]).size).toBe(COUNT);
    for (let rank = 0; rank < COUNT; rank++) {
      expect(own[rank]).toBeCloseTo(all[rank], 4);
      expect(found.distances[at][rank]).toBeCloseTo(all[rank], 4);
    }
  }
}

test.each([
  ['faiss-binary', 'ubinary', hamming],
  ['usearch-b1', 'ubinary', hamming],
  ['usearch-i8', 'int8', cosineDistance],
] as const)('%s finds rows of %s', async (store, form, distance) => {
  const [rows, queries] = [await rowsOf(TEXTS, form), await rowsOf(QUERIES, form)];
  writeFileSync(join(folder, 'rows'), Buffer.concat(rows));
  writeFileSync(join(folder, 'queries'), Buffer.concat(queries));
  const dimension = form === 'int8' ? rows[0].length : rows[0].length * 8;
  const words = [store, folder, String(dimension), String(COUNT)];
  const found = JSON.parse(await runStore(words));
  expectNearest(found, { rows, queries, distance });
});

test.each([
  ['bit', 'ubinary', hamming],
  ['int8', 'int8', cosineDistance],
] as const)('sqlite-vec finds rows in a column of %s', async (type, form, distance) => {
  const [rows, queries] = [await rowsOf(TEXTS, form), await rowsOf(QUERIES, form)];
  // Not every Python may load extensions; this SQLite does.
  const database = new Database(':memory:');
  const [extension = ''] = new Bun.Glob('lib/*/site-packages/sqlite_vec/vec0.so').scanSync({
    cwd: STORES_VENV_DIRECTORY,
    absolute: true,
  });
  database.loadExtension(extension);
  const column = type === 'bit' ? `bit[${rows[0].length * 8}]` : `int8[${rows[0].length}]`;
  const metric = type === 'bit' ? '' : 'distance_metric=cosine';
  database.run(`create virtual table rows using vec0(row ${column} ${metric})`);
  const insert = database.query(`insert into rows(rowid, row) values (?, vec_${type}(?))`);
  for (const [id, row] of rows.entries()) insert.run(id, row);
  const search = database.query<{ rowid: number; distance: number }, [Uint8Array, number]>(
    `select rowid, distance from rows where row match vec_${type}(?) and k = ? order by distance`,
  );
  const found = queries.map((query) => search.all(query, COUNT));
  database.close();
  const ids = found.map((near) => near.map(({ rowid }) => rowid));
  const distances = found.map((near) => near.map((one) => one.distance));
  expectNearest({ ids, distances }, { rows, queries, distance });
});

test('pgvector finds rows of ubinary as bit', async () => {
  const [rows, queries] = [await rowsOf(TEXTS, 'ubinary'), await rowsOf(QUERIES, 'ubinary')];
  const postgres = await startPostgres();
  try {
    await postgres.psql('create extension vector');
    await postgres.psql(`create table rows (id int, row bit(${rows[0].length * 8}))`);
    const values = rows.map((row, id) => `(${id}, B'${bitsOf(row)}')`).join();
    await postgres.psql(`insert into rows values ${values}`);
    const found: { ids: number[][]; distances: number[][] } = { ids: [], distances: [] };
    for (const query of queries) {
      const distance = `row <~> B'${bitsOf(query)}'`;
      const asked = `select id, ${distance} from rows order by ${distance} limit ${COUNT}`;
      const pairs = (await postgres.psql(asked)).trim().split('\n');
      const parted = pairs.map((pair) => pair.split('|').map(Number));
      found.ids.push(parted.map(([id = 0]) => id));
      found.distances.push(parted.map(([, distance = 0]) => distance));
    }
    expectNearest(found, { rows, queries, distance: hamming });
  } finally {
    await postgres.stop();
  }
});
