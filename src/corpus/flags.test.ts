import { describe, expect, test } from 'bun:test';
import { FLAGS, helpText, parseCommandLine } from './flags.ts';

const parse = (line: string) => parseCommandLine(line.split(' '));

describe('the command line', () => {
  test('has values after a space or an equals sign, and sources among the flags', () => {
    const { options } = parse('a.jsonl --to=out --text body,title b.csv --carry court,year');
    expect(options).toMatchObject({
      sources: ['a.jsonl', 'b.csv'],
      to: 'out',
      fields: { text: ['body', 'title'], id: undefined, carry: ['court', 'year'] },
      format: 'parquet',
      heads: ['dense'],
      truncate: true,
    });
  });

  test('heads stand in one order, whatever order they were named in', () => {
    expect(parse('a --to b --heads multi_vector,dense').options.heads).toEqual([
      'dense',
      'multi_vector',
    ]);
  });

  test('more texts in a request may have more characters, but not where replies grow with them', () => {
    const charactersMax = (line: string) => parse(line).options.requests.requestCharactersMax;
    expect(charactersMax('a --to b')).toBe(65_536);
    expect(charactersMax('a --to b --request-texts 8')).toBe(65_536);
    expect(charactersMax('a --to b --request-texts 512')).toBe(262_144);
    expect(charactersMax('a --to b --request-texts 512 --heads dense,multi_vector')).toBe(4096);
  });

  test.each([
    ['a', '--to is missing'],
    ['--to out', 'no source'],
    ['a --to out --formt npy', 'no flag --formt; is it --format?'],
    [
      'a --to out --format csv',
      '--format must be one of parquet, jsonl, npy, openai-batch, not "csv"',
    ],
    ['a --to out --concurrency 0', '--concurrency must be a whole number from 1 to 1024, not "0"'],
    ['a --to out --format npy --heads sparse', '--format npy holds dense rows alone'],
    ['a --to postgres://me:key@host/db --queue nats://q', 'set PGPASSWORD for each worker'],
    ['a --to', '--to needs a value'],
    ['a --to out --plan=yes', '--plan takes no value'],
    // The last one alone would count, and nobody would know.
    ['a --to out --carry court --carry year', '--carry is there twice; several names are joined'],
    ['a --to out --heads ,', '--heads names nothing'],
    // Readers of Parquet refuse two columns of one name, or show one of them.
    ['a --to out --carry id', 'the id is in the output already, by --id id'],
    ['a --to out --id key --carry id', '--carry id: the output has a column id of its own'],
    ['a --to out --carry court,error', '--carry error: the output has a column error of its own'],
    ['a --to out --carry court,year,court', '--carry names court twice'],
    ['a --to out --chunk-tokens 31', '--chunk-tokens must be a whole number from 32 to'],
    ['a --to out --chunk-tokens 64 --chunk-overlap 32', 'must be less than half of --chunk-tokens'],
    ['a --to out --chunk-overlap 8', '--chunk-overlap is for --chunk-tokens'],
    ['a --to out --chunk-text', '--chunk-text is for --chunk-tokens'],
    ['a --to out --chunk-tokens 64 --no-truncate', '--no-truncate says nothing beside'],
    [
      'a --to out --chunk-tokens 64 --format openai-batch',
      'an OpenAI batch has one vector for each',
    ],
    ['a --to out --chunk-tokens 64 --carry chunk_end', 'has a column chunk_end of its own'],
    ['a --to out --chunk-tokens 64 --carry year,chunk', 'has a column chunk of its own'],
    [
      'a --to postgres://h/d --to-column v --id id --chunk-tokens 64',
      '--to-column has room for one vector of each row',
    ],
    ['a --to out --table laws', '--table is for a postgres:// source'],
    ['a --to out --to-column v', '--to-column is for a postgres:// destination'],
    [
      'a --to postgres://h/d --to-column v',
      '--to-column finds the rows by their id: --id is missing',
    ],
    ['a --to postgres://h/d?password=key --queue nats://q', 'set PGPASSWORD for each worker'],
  ])('%s', (line, words) => {
    expect(() => parse(line)).toThrow(words);
  });

  test('every flag of a word or a number shows what came, up to a bound', () => {
    const shown: string[] = [];
    for (const [name, { value }] of Object.entries(FLAGS)) {
      if (value === undefined) continue;
      // With these, every flag may stand there.
      const all = ['--to postgres://h/d', '--queue nats://q', '--id id'];
      const others = all.filter((flag) => !flag.startsWith(`--${name} `));
      const line = (wrong: string) =>
        parse(`postgres://h/d ${others.join(' ')} --${name} ${wrong}`);
      const said = (wrong: string): string => {
        try {
          return String(line(wrong) && '');
        } catch (error) {
          return (error as Error).message;
        }
      };
      if (said('FL-1') === '') continue;
      shown.push(name);
      expect(said('FL-1')).toContain('not "FL-1"');
      expect(said('x'.repeat(5000)).length).toBeLessThan(300);
    }
    // A word of another file format, dtype or head is never free text.
    expect(shown).toEqual(expect.arrayContaining(['format', 'input-format', 'heads', 'dtype']));
    expect(shown.length).toBeGreaterThanOrEqual(14);
    expect(() => parse(`a --${'x'.repeat(5000)}`)).toThrow(/^.{0,200}$/);
  });

  test('the help names every flag', () => {
    for (const name of Object.keys(FLAGS)) expect(helpText()).toContain(`--${name}`);
  });
});
