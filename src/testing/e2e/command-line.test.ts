import { expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';

/** Words after `bun src/main.ts`. A flag that is not read would leave its default in silence. */

setDefaultTimeout(30_000);

const ENTRY = join(import.meta.dir, '../../main.ts');

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
