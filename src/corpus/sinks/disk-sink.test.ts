import { expect, test } from 'bun:test';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Manifest } from '../job/manifest.ts';
import { createDiskSink } from './disk-sink.ts';
import { JSONL_FORMAT } from './jsonl-format.ts';
import type { OutputSchema } from './sink.ts';

const SCHEMA: OutputSchema = {
  id: { name: 'id', kind: 'string' },
  carried: [],
  heads: ['dense'],
  dtype: 'float32',
  dimension: 2,
  model: 'm',
};
const FACTS = { part: 0, texts: 0, tokens: 0, truncated: 0, failed: 0, errors: [] };

/** Caught, planted: the folder of unfinished files is made once, when a process makes ready. */
test('a process that ends takes nothing from another of the same job', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'disk-sink-'));
  try {
    const [staying, ending] = [0, 1].map(() => createDiskSink({ folder, format: JSONL_FORMAT }));
    expect(await staying.createManifest('{}')).toBe(true);
    for (const sink of [staying, ending]) await sink.prepare(SCHEMA, {} as Manifest);
    await ending.close();
    const part = await staying.openPart(0);
    await ending.close();
    await part.commit(FACTS);
    expect([...(await staying.committed())]).toEqual([0]);
    expect(await staying.factsOf(0)).toEqual(FACTS);
    await staying.close();
    expect((await readdir(join(folder, '_embed'))).sort()).toEqual(['facts', 'manifest.json']);
  } finally {
    await rm(folder, { recursive: true });
  }
});

/** As in two containers of one host name, where both are process 1. */
test('two writers of one part, of one name and number, leave it whole', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'disk-sink-'));
  try {
    const sinks = [0, 1].map(() => createDiskSink({ folder, format: JSONL_FORMAT }));
    for (const sink of sinks) await sink.prepare(SCHEMA, {} as Manifest);
    const row = { carried: [], encoded: undefined, error: 'E: wrong' };
    const [first, second] = await Promise.all(sinks.map((sink) => sink.openPart(0)));
    await first?.write([{ id: 'a', ...row }]);
    await second?.write([{ id: 'a', ...row }]);
    await first?.commit(FACTS);
    const whole = await readFile(join(folder, 'part-000000.jsonl'), 'utf8');
    expect(whole).toContain('"a"');
    await second?.commit(FACTS);
    expect(await readFile(join(folder, 'part-000000.jsonl'), 'utf8')).toBe(whole);
    for (const sink of sinks) await sink.close();
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('a folder that cannot be listed has no less in it', async () => {
  const folder = join(await mkdtemp(join(tmpdir(), 'disk-sink-')), 'out');
  const sink = createDiskSink({ folder, format: JSONL_FORMAT });
  expect((await sink.committed()).size).toBe(0);
  await Bun.write(folder, 'a file by now');
  await expect(sink.committed()).rejects.toMatchObject({ code: 'CORPUS_SINK_FAILED' });
  await rm(dirname(folder), { recursive: true });
});
