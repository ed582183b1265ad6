import { expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';

/** Words after `bun src/main.ts`. A flag that is not read would leave its default in silence. */

setDefaultTimeout(30_000);

const ENTRY = join(import.meta.dir, '../../main.ts');
const EXPORT = join(import.meta.dir, '../../provision/export.ts');

/** Caught: each of them ended well, and what was asked for was nowhere. */
test.each([
  [ENTRY, ['--version'], 1],
  [ENTRY, ['config'], 1],
  [ENTRY, ['embed', '--help'], 6],
  [ENTRY, ['embed', import.meta.path, '--input-format', 'text', '--plan'], 6],
  [EXPORT, ['--help'], 1],
  [EXPORT, ['--plan'], 1],
] as const)('%s %j fails where its words cannot be written', async (entry, words, status) => {
  const command = [process.execPath, entry, ...words].map((word) => `'${word}'`).join(' ');
  const { exitCode, stderr } = Bun.spawnSync({
    cmd: ['sh', '-c', `exec ${command} >/dev/full`],
    env: { PATH: process.env.PATH },
  });
  expect(stderr.toString()).toMatch(/^standard output cannot be written: ENOSPC.*\n$/m);
  expect(exitCode).toBe(status);
});

/** Caught, planted: it served, whatever words came. */
test.each([
  [['--model', 'bge-m3'], '--model'],
  [['--port=9000'], '--port=9000'],
  [['serve'], 'serve'],
  [['embedd', 'laws.jsonl'], 'embedd'],
  [['--healthcheck', '--port', '9000'], '--port'],
])('%j is refused by its word: exit status 2', (words, wrong) => {
  const { exitCode, stderr } = Bun.spawnSync({
    cmd: [process.execPath, ENTRY, ...words],
    env: { PATH: process.env.PATH, HOST: '127.0.0.1', PORT: '0' },
    // A server that was started all the same would not end by itself.
    timeout: 5000,
    killSignal: 'SIGKILL',
  });
  expect(stderr.toString()).toContain(`"${wrong}"`);
  expect(stderr.toString()).toContain('./run.sh');
  expect(exitCode).toBe(2);
});
