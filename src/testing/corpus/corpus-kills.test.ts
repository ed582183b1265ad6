import { afterEach, beforeEach, expect, setDefaultTimeout, test } from 'bun:test';
import { watch } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import { legalTexts } from '../legal-texts.ts';
import { until } from '../until.ts';
import { bytesOfFolder, type CorpusStand, jsonLines, startCorpusStand } from './corpus-stand.ts';
import { killAtRandom, leftIn } from './kill-at-random.ts';
import { guardOf, killPid, runCommand, serverOf, startCommand, untilGone } from './kill-run.ts';
import { writeMixed } from './small-files.ts';

/**
 * The real command, in a process of its own, against what ends processes.
 * `scripts/sim/corpus-kills.ts` kills two hundred times.
 *
 * Faults that were planted to see these fail: parts written in their place; the guard of the server
 * left out (an orphan), or started after server and folder; a guard that is gone ends the job.
 * Once seen: the folders of sockets that killed commands left.
 */

setDefaultTimeout(180_000);

let stand: CorpusStand;

beforeEach(() => {
  stand = startCorpusStand();
});

afterEach(() => stand.close());

const EMBEDDED = { BACKEND: 'embedded', EMBEDDED_SLOTS: '1', TOKENIZER_WORKERS: '1' };

test('killed a dozen times, with its server or alone, the bytes are those of a calm run', async () => {
  const texts = legalTexts(
    Array.from({ length: 400 }, (_, index) => 4 + (index % 9)),
    3,
  );
  const records = texts.map((text, index) => ({ id: `law-${index}`, text }));
  await writeMixed(stand.path('laws'), records);
  const report = await killAtRandom({
    source: stand.path('laws'),
    words: ['--id', 'id', '--part-texts', '32', '--request-texts', '8'],
    folder: stand.folder,
    environment: EMBEDDED,
    killCount: 12,
    seed: 11,
  });
  expect(report.differing).toEqual([]);
  expect(report.orphans).toBe(0);
  // Folders of their sockets.
  expect(report.left).toEqual([]);
  expect(report.jobs).toBeGreaterThan(0);
});

test('killed while it starts its server, it leaves neither server nor folder', async () => {
  const source = await stand.write('laws.jsonl', jsonLines(['статья']));
  const temporary = stand.path('tmp');
  await mkdir(temporary);
  const environment = { ...EMBEDDED, TMPDIR: temporary };
  const named = async (end: string) =>
    (await readdir(temporary, { recursive: true })).some((name) => name.endsWith(end));
  const moments = {
    'its folder is there': () => named(''),
    'its server is begun': async (pid: number) => (await serverOf(pid)) !== undefined,
    'its socket is there': () => named('.sock'),
  } as const;
  for (const [moment, hasCome] of Object.entries(moments)) {
    for (let kill = 0; kill < 3; kill++) {
      const begun = Promise.withResolvers<void>();
      const watcher = watch(temporary, () => begun.resolve());
      const command = startCommand([source, '--to', stand.path('out')], { environment });
      await begun.promise;
      watcher.close();
      await until(moment, () => hasCome(command.pid));
      const server = await serverOf(command.pid);
      command.kill('SIGKILL');
      await command.ended;
      if (server !== undefined) await untilGone(server);
      expect(await leftIn(temporary)).toEqual([]);
    }
  }
});

test('a guard that somebody ends costs no job', async () => {
  const source = await stand.write('laws.jsonl', jsonLines(['статья']));
  const environment = { ...EMBEDDED, TMPDIR: stand.folder };
  const command = startCommand([source, '--to', stand.path('out')], { environment });
  await until('it has a server', async () => (await serverOf(command.pid)) !== undefined);
  killPid((await guardOf(command.pid)) as number, 'SIGKILL');
  expect((await command.ended).status).toBe(0);
});

/** Enough that a job is at work when it is disturbed. */
const MANY = Array.from(
  { length: 3000 },
  (_, index) => `статья ${index} ${'а'.repeat(index / 30)}`,
);

function words(to: string): string[] {
  const fields = ['--id', 'id', '--carry', 'text', '--part-texts', '100', '--format', 'jsonl'];
  const source = stand.path('laws.jsonl');
  return [source, '--to', stand.path(to), ...fields, '--url', stand.server.url];
}

/** The files of an undisturbed run. */
async function calmRun(): Promise<Record<string, string>> {
  await stand.write('laws.jsonl', jsonLines(MANY));
  expect((await runCommand(words('calm'))).status).toBe(0);
  return bytesOfFolder(stand.path('calm'));
}

test('SIGINT ends it cleanly and says how to go on', async () => {
  const calm = await calmRun();
  const command = startCommand(words('out'));
  await until('it is at work', () => stand.textsSent().length > MANY.length + 500);
  command.kill('SIGINT');
  const { status, said } = await command.ended;
  expect({ status, said }).toMatchObject({
    status: 130,
    said: expect.stringContaining('same command'),
  });
  const left = Object.keys(await bytesOfFolder(stand.path('out')));
  expect(left.filter((name) => name.endsWith('.partial'))).toEqual([]);
  expect((await runCommand(words('out'))).status).toBe(0);
  expect(await bytesOfFolder(stand.path('out'))).toEqual(calm);
});

test('a full disk ends it with words, and what was committed counts', async () => {
  const calm = await calmRun();
  // No file may grow over 24 kB: parts of short texts fit, those of long ones do not.
  const limited = await runCommand(words('out'), { shell: 'ulimit -f 24; trap "" XFSZ' });
  expect(limited).toMatchObject({ status: 6, said: expect.stringContaining('CORPUS_SINK_FAILED') });
  const begun = Object.keys(await bytesOfFolder(stand.path('out')));
  expect(begun.filter((name) => name.startsWith('part')).length).toBeGreaterThan(3);
  expect((await runCommand(words('out'))).status).toBe(0);
  expect(await bytesOfFolder(stand.path('out'))).toEqual(calm);
});

test('exit statuses are those that the help names', async () => {
  expect((await runCommand(['--help'])).status).toBe(0);
  expect((await runCommand(['x.jsonl'])).status).toBe(2);
  expect((await runCommand(['nowhere.jsonl', '--to', stand.path('out')])).status).toBe(2);
  const source = await stand.write('empty.jsonl', jsonLines(['а', '']));
  const to = ['--to', stand.path('out'), '--url', stand.server.url];
  expect((await runCommand([source, ...to])).status).toBe(3);
  expect((await runCommand([source, ...to, '--dtype', 'float16'])).status).toBe(4);
});
