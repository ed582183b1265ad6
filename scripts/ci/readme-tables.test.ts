import { expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { withTables } from './readme-tables.ts';

const README = readFileSync(join(import.meta.dir, '../../README.md'), 'utf8');

test('the README has the settings and error codes of the code: bun scripts/ci/readme-tables.ts', () => {
  expect(README).toBe(withTables(README));
});

test('the tables are noticed when they differ', () => {
  const faulty = README.replace('`EMB_QUEUE_FULL`', '`EMB_QUEUE_FILLED`');
  expect(withTables(faulty)).not.toBe(faulty);
  expect(() => withTables('no markers')).toThrow('settings');
});
