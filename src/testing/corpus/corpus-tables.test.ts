import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { scriptedRow } from '../scripted-encode-server.ts';
import { until } from '../until.ts';
import { type CorpusStand, rowsOfJsonLines, startCorpusStand } from './corpus-stand.ts';
import { type RunningPostgres, startPostgres } from './start-postgres.ts';

/**
 * Tables as people have them: keys of every type, columns of every type, names that want quotes,
 * and columns that vectors must not go into. Each test failed before what it holds was mended.
 */

setDefaultTimeout(120_000);

let stand: CorpusStand;
let postgres: RunningPostgres;

beforeAll(async () => {
  stand = startCorpusStand();
  postgres = await startPostgres();
  await postgres.psql('create extension vector');
});

afterAll(async () => {
  await postgres?.stop();
  await stand.close();
});

/** Reads a table into rows. */
async function rowsOf(table: string, words: readonly string[]): Promise<Record<string, unknown>[]> {
  const to = stand.path(crypto.randomUUID());
  await stand.embed([postgres.url, '--table', table, ...words, '--to', to, '--format', 'jsonl']);
  return rowsOfJsonLines(to);
}

/** As SQL, of a number from 1 on. */
const KEYS: Readonly<Record<string, string>> = {
  bigint: '9007199254740000 + n',
  'double precision': 'n / 3.0',
  numeric: 'n / 7.0',
  uuid: `lpad(n::text, 32, '0')::uuid`,
  bytea: `decode(lpad(to_hex(n), 8, '0'), 'hex')`,
  date: `date '2020-01-01' + n`,
  timestamptz: `timestamptz '2024-01-02 03:04:05.5+03' + n * interval '1 microsecond'`,
  timestamp: `timestamp '2024-01-02 03:04:05.5' + n * interval '1 microsecond'`,
  'text collate "C"': 'md5(n::text)',
  'char(9)': `'k' || n`,
};

test.each(Object.entries(KEYS))('a key of %s gives each row once, in parts', async (type, sql) => {
  const table = `keys_${Object.keys(KEYS).indexOf(type)}`;
  await postgres.psql(`create table ${table} (k ${type} primary key, text text);
    insert into ${table} select ${sql}, 'статья ' || n from generate_series(1, 2500) n`);
  const rows = await rowsOf(table, ['--id', 'k', '--carry', 'text', '--part-texts', '700']);
  const texts = rows.map(({ text }) => text);
  expect(new Set(texts).size).toBe(2500);
  const inOrder = await postgres.psql(`select text from ${table} order by k`);
  expect(texts).toEqual(inOrder.trim().split('\n'));
});

test('a key that is null or comes again is refused: at the end of a page rows would be lost', async () => {
  await postgres.psql(`create table twice as select n / 7 as k, 'т' as text from generate_series(1, 3000) n;
    create table gaps as select nullif(n, 1500) as k, 'т' as text from generate_series(1, 3000) n`);
  await expect(rowsOf('twice', ['--id', 'k'])).rejects.toThrow('0 comes again');
  await expect(rowsOf('gaps', ['--id', 'k'])).rejects.toThrow('it is null in some rows');
});

test('a role whose sessions may not be idle, or whose statements are short, reads to the end', async () => {
  await postgres.psql(`create role hurried login;
    alter role hurried set idle_in_transaction_session_timeout = '100ms';
    alter role hurried set statement_timeout = '100ms';
    create table held as select n as id, 'статья ' || n as text from generate_series(1, 2500) n;
    create view slow as select held.* from held, (select pg_sleep(0.15)) as paused;
    grant select on held, slow to hurried`);
  const waited = () =>
    postgres.psql(`select count(*) from pg_stat_activity where usename = 'hurried'
      and state = 'idle in transaction' and now() - state_change > interval '200 ms'`);
  let isHeld = false;
  // Texts of the first page alone are encoded until then.
  stand.answer = async () => {
    if (!isHeld) await until('the session was idle', async () => Number(await waited()) > 0);
    isHeld = true;
    return undefined;
  };
  const source = postgres.url.replace('//tester@', '//hurried@');
  const words = ['--table', 'slow', '--id', 'id', '--part-texts', '100', '--concurrency', '1'];
  const report = await stand.embed([source, ...words, '--to', stand.path('hurried')]);
  stand.answer = undefined;
  expect(report).toMatchObject({ texts: 2500, failed: 0 });
  expect(isHeld).toBe(true);
});

test('rows that a role may not see are told of', async () => {
  await postgres.psql(`create role guarded login;
    create table shared as select n as id, 'статья ' || n as text, n % 2 as court from generate_series(1, 10) n;
    alter table shared enable row level security;
    create policy own on shared to guarded using (court = 1);
    grant select on shared to guarded`);
  const job = (role: string, to: string) =>
    stand.embed([
      ...[postgres.url.replace('//tester@', `//${role}@`), '--table', 'shared', '--id', 'id'],
      ...['--to', stand.path(to)],
    ]);
  const told = 'postgres shared has row security: rows that this role may not see are left out';
  expect(await job('tester', 'all-rows')).toMatchObject({ texts: 10 });
  expect(stand.said).not.toContain(told);
  expect(await job('guarded', 'own-rows')).toMatchObject({ texts: 5 });
  expect(stand.said).toContain(told);
});

test('columns of every type are carried to their last digit, and read the same each time', async () => {
  await postgres.psql(`create table typed (id int primary key, text text default 'т',
    i int[] default '{1,2}', t text[] default '{a,"b c"}', f real default 0.1, d float8 default 0.1,
    n numeric default 12345678901234567890.12, j jsonb default '{"a": [9007199254740993]}',
    z timestamptz default '2024-01-02 03:04:05.678901+03', l timestamp default '2024-01-02 03:04:05.678901',
    day date default '2024-01-02', b bytea default '\\xff00', w boolean default true,
    s interval default '1 day', v vector(2) default '[1,2]', big bigint default 9007199254740993);
    insert into typed select n from generate_series(1, 5) n`);
  const names = 'i,t,f,d,n,j,z,l,day,b,w,s,v,big';
  const to = stand.path('typed');
  const words = [postgres.url, '--table', 'typed', '--id', 'id', '--carry', names];
  await stand.embed([...words, '--to', to, '--format', 'jsonl', '--part-texts', '2']);
  const [line = ''] = (await Bun.file(`${to}/part-000000.jsonl`).text()).split('\n');
  expect(line).toStartWith(
    '{"id":1,"i":[1,2],"t":["a","b c"],"f":0.1,"d":0.1,"n":"12345678901234567890.12",' +
      '"j":{"a":[9007199254740993]},"z":"2024-01-02T00:04:05.678901Z",' +
      '"l":"2024-01-02T03:04:05.678901","day":"2024-01-02","b":"\\\\xff00","w":true,' +
      '"s":"1 day","v":"[1,2]","big":9007199254740993,',
  );
});

test('names are taken as they are, and in double quotes as in SQL', async () => {
  await postgres.psql(`create schema "Дела"; create table "Дела"."Свод.2024" ("Id" int primary key, "Text" text);
    insert into "Дела"."Свод.2024" values (1, 'а'); create table "Large One" (id int primary key, text text);
    insert into "Large One" values (1, 'а')`);
  expect(await rowsOf('"Дела"."Свод.2024"', ['--id', 'Id', '--text', 'Text'])).toHaveLength(1);
  expect(await rowsOf('Large One', ['--id', 'id'])).toHaveLength(1);
  expect(await rowsOf('select 5 as id, text from "Large One";', ['--id', 'id'])).toHaveLength(1);
});

test('no password is shown or stored, wherever in the address it stands', async () => {
  const [, place = ''] = postgres.url.split('@');
  await postgres.psql('create table told (id int primary key, text text)');
  await postgres.psql(`insert into told values (1, 'а')`);
  const to = stand.path('told');
  const address = `postgres://tester:se%40cret@${place}`;
  await stand.embed([address, '--table', 'told', '--id', 'id', '--to', to]);
  expect(await Bun.file(`${to}/_embed/manifest.json`).text()).not.toContain('cret');
  const wrong = [
    'u:se/cret@127.0.0.1:1/db',
    'u:se@cret@127.0.0.1:1/db',
    '127.0.0.1:1/db?password=secret',
  ];
  for (const rest of wrong) {
    const words = [`postgres://${rest}`, '--table', 'told', '--id', 'id', '--to', to];
    const failure = await stand.embed(words).catch((error: Error) => error);
    expect(failure).toMatchObject({ name: 'CorpusError' });
    expect(String(failure)).not.toContain('cret');
  }
});

test('a column is filled by the key of any name and type, and each has a job of its own', async () => {
  await postgres.psql(`create table acts (act uuid primary key, text text, v vector(3), h halfvec(3));
    insert into acts select lpad(n::text, 32, '0')::uuid, 'статья ' || n from generate_series(1, 90) n`);
  const from = [postgres.url, '--table', 'acts', '--id', 'act', '--part-texts', '40'];
  const into = ['--to', postgres.url, '--to-table', 'acts', '--to-column'];
  await stand.embed([...from, ...into, 'v']);
  await stand.embed([...from, ...into, 'h', '--dtype', 'float16']);
  const asked = `select v, h is null from acts where text = 'статья 42'`;
  expect(await postgres.psql(asked)).toBe(`[${scriptedRow('статья 42').join(',')}]|f\n`);
  expect(await postgres.psql('select count(*) from acts where v is null or h is null')).toBe('0\n');
  // Of CSV every id is text.
  const csv = await stand.write('acts.csv', `act,text\n${'0'.repeat(31)}7,иск\n`);
  await postgres.psql('drop table acts_v_embed_parts, acts_v_embed_manifest');
  await stand.embed([csv, '--id', 'act', ...into, 'v']);
  expect(await postgres.psql(`select v from acts where text = 'статья 7'`)).toBe(
    `[${scriptedRow('иск').join(',')}]\n`,
  );
});

test('an id without a row in the table stops the job, and no vector is lost in silence', async () => {
  await postgres.psql('create table few (id int primary key, v vector(3))');
  await postgres.psql('insert into few values (1)');
  const source = await stand.write('few.jsonl', '{"id":1,"text":"а"}\n{"id":2,"text":"б"}\n');
  const into = ['--to', postgres.url, '--to-table', 'few', '--to-column', 'v', '--id', 'id'];
  const job = stand.embed([source, ...into]);
  await expect(job).rejects.toThrow('few has no row for 1 ids of a part, 2 is one');
  expect(await postgres.psql('select v is null from few')).toBe('t\n');
});

test('a column of another type or length is refused before anything is there', async () => {
  await postgres.psql(`create table laws (id int primary key, text text, short vector(2));
    insert into laws values (1, 'статья')`);
  const words = [postgres.url, '--table', 'laws', '--id', 'id', '--to', postgres.url];
  const into = (column: string) =>
    expect(stand.embed([...words, '--to-table', 'laws', '--to-column', column])).rejects;
  await into('text').toThrow('--to-column text is text; the rows are vector(3)');
  await into('short').toThrow('--to-column short is vector(2); the rows are vector(3)');
  await into('absent').toThrow('alter table "laws" add column "absent" vector(3);');
  expect(await postgres.psql('select text from laws')).toBe('статья\n');
  const left = `select count(*) from pg_class where relname like 'laws\\_%embed%'`;
  expect(await postgres.psql(left)).toBe('0\n');
});

test(`rows are never put beside those of somebody's table`, async () => {
  await postgres.psql(`create table theirs (id int); insert into theirs values (7);
    create table bare (id int)`);
  const source = await stand.write('one.jsonl', '{"id":1,"text":"а"}\n');
  const into = (table: string) =>
    expect(stand.embed([source, '--id', 'id', '--to', postgres.url, '--to-table', table])).rejects;
  await into('theirs').toThrow('theirs has rows that are of no job of ours');
  await into('bare').toThrow(`has no column token_count (integer)`);
  // Caught: a job that was refused left its two tables behind.
  const without = [source, '--text', 'body', '--to', postgres.url, '--to-table', 'unmade'];
  await expect(stand.embed(without)).rejects.toThrow('--text body');
  expect(await postgres.psql('select count(*) from theirs')).toBe('1\n');
  const left = `select relname from pg_class where relname ~ '^(theirs|bare|unmade).+'`;
  expect(await postgres.psql(left)).toBe('');
});

test('JSON that jsonb would refuse does not cost the part', async () => {
  const meta = '{"k":"a\\u0000b","s":"\\ud800","e":"\\\\u0000"}';
  const source = await stand.write('meta.jsonl', `{"id":1,"text":"а","meta":${meta}}\n`);
  const words = [source, '--id', 'id', '--carry', 'meta', '--to', postgres.url];
  await stand.embed([...words, '--to-table', 'meta']);
  expect(await postgres.psql(`select meta->>'k', meta->>'s', meta->>'e' from meta`)).toBe(
    'ab|\uFFFD|\\u0000\n',
  );
});

test('a long name leaves its two tables two', async () => {
  const source = await stand.write('long.jsonl', '{"id":1,"text":"а"}\n');
  const table = 'решения_арбитражных_судов_москвы';
  await stand.embed([source, '--id', 'id', '--to', postgres.url, '--to-table', table]);
  expect(await postgres.psql(`select count(*) from ${table}`)).toBe('1\n');
});

test('jobs that begin together make their tables once, and each part is there once', async () => {
  const source = await stand.write('together.jsonl', '{"id":1,"text":"а"}\n{"id":2,"text":"б"}\n');
  for (const round of [1, 2, 3]) {
    const to = ['--to', postgres.url, '--to-table', `together_${round}`, '--part-texts', '1'];
    const jobs = Array.from({ length: 6 }, () => stand.embed([source, '--id', 'id', ...to]));
    // All of them end before one that failed is told of.
    const ends = await Promise.allSettled(jobs);
    expect(ends.flatMap((end) => (end.status === 'rejected' ? [end.reason.message] : []))).toEqual(
      [],
    );
    const counts = `select count(*), count(distinct id) from together_${round}`;
    expect(await postgres.psql(counts)).toBe('2|2\n');
  }
});
