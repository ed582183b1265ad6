import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { bytesOfFolder, type CorpusStand, jsonLines, startCorpusStand } from './corpus-stand.ts';

/**
 * A job that is taken up again, against a scripted server.
 *
 * Faults that were planted to see these fail: the pin not compared; the shard's hash left out;
 * the fingerprint without the dtype, or the engine.
 */

let stand: CorpusStand;

beforeEach(() => {
  stand = startCorpusStand();
});

afterEach(() => stand.close());

const TEXTS = Array.from(
  { length: 500 },
  (_, index) => `статья ${index} ${'а'.repeat(index % 37)}`,
);
const SMALL_PARTS = ['--part-texts', '64', '--request-texts', '8'];

function words(source: string, to: string, ...more: string[]): string[] {
  return [source, '--to', to, '--id', 'id', '--format', 'jsonl', ...SMALL_PARTS, ...more];
}

describe('a job that is taken up again', () => {
  test('does what is left, to the same bytes', async () => {
    const source = await stand.write('laws.jsonl', jsonLines(TEXTS));
    await stand.embed(words(source, stand.path('whole')));
    const interrupt = new AbortController();
    stand.answer = () => {
      const isBegun = existsSync(stand.path('out/part-000000.jsonl'));
      if (isBegun) interrupt.abort(new Error('stopped'));
      return undefined;
    };
    const job = stand.embed(words(source, stand.path('out')), interrupt.signal);
    await expect(job).rejects.toThrow('stopped');
    stand.answer = undefined;
    const report = await stand.embed(words(source, stand.path('out')));
    expect(report.texts).toBe(500);
    expect(report.textsNow).toBeLessThan(500);
    expect(await bytesOfFolder(stand.path('out'))).toEqual(
      await bytesOfFolder(stand.path('whole')),
    );
    const sentBefore = stand.textsSent().length;
    await stand.embed(words(source, stand.path('out')));
    expect(stand.textsSent().length).toBe(sentBefore);
  });

  test('refuses another way of encoding, by its name', async () => {
    const source = await stand.write('laws.jsonl', jsonLines(TEXTS));
    await stand.embed(words(source, stand.path('out')));
    const job = stand.embed(words(source, stand.path('out'), '--dtype', 'float16'));
    await expect(job).rejects.toMatchObject({
      code: 'CORPUS_JOB_DIFFERS',
      message: expect.stringContaining('dtype was float32 and is float16'),
    });
    stand.model = { ...stand.model, pooling: 'cls' };
    await expect(stand.embed(words(source, stand.path('out')))).rejects.toThrow('pooling');
  });

  test('refuses a server whose graph or engine is another, by its name', async () => {
    const source = await stand.write('laws.jsonl', jsonLines(TEXTS));
    stand.model = { ...stand.model, engine: 'model-int8.onnx sha256 00' };
    await stand.embed(words(source, stand.path('out')));
    stand.model = { ...stand.model, engine: 'model.onnx sha256 11' };
    await expect(stand.embed(words(source, stand.path('out')))).rejects.toMatchObject({
      code: 'CORPUS_JOB_DIFFERS',
      message: expect.stringContaining(
        'engine was model-int8.onnx sha256 00 and is model.onnx sha256 11',
      ),
    });
  });

  test('refuses a source that has changed, by its name; a new time alone is no change', async () => {
    const source = await stand.write('laws.jsonl', jsonLines(TEXTS));
    await stand.embed(words(source, stand.path('out')));
    await stand.write('laws.jsonl', jsonLines(TEXTS));
    await stand.embed(words(source, stand.path('out')));
    await stand.write('laws.jsonl', jsonLines(TEXTS).replace('статья 3', 'статья 4'));
    const job = stand.embed(words(source, stand.path('out')));
    await expect(job).rejects.toMatchObject({
      code: 'CORPUS_SOURCE_CHANGED',
      exitStatus: 4,
      message: expect.stringContaining(source),
    });
  });

  test('goes on with a manifest of before parts went over the ends of files; refuses a later one', async () => {
    await stand.write('laws/1.jsonl', jsonLines(TEXTS.slice(0, 64)));
    await stand.write('laws/2.jsonl', jsonLines(TEXTS.slice(64)));
    const job = words(stand.path('laws'), stand.path('out'));
    await stand.embed(job);
    const whole = await bytesOfFolder(stand.path('out'));
    const manifest = stand.path('out/_embed/manifest.json');
    const text = await Bun.file(manifest).text();
    const versioned = (version: number): Promise<number> =>
      Bun.write(manifest, text.replace('"manifestVersion": 2', `"manifestVersion": ${version}`));
    await versioned(1);
    await rm(stand.path('out/part-000001.jsonl'));
    await stand.embed(job);
    await versioned(2);
    expect(await bytesOfFolder(stand.path('out'))).toEqual(whole);
    await versioned(3);
    await expect(stand.embed(job)).rejects.toMatchObject({
      code: 'CORPUS_JOB_DIFFERS',
      message: expect.stringContaining('a manifest that this version cannot read'),
    });
  });

  // Caught: it ended as a wrong flag does, which no watcher starts again.
  test('stops where a file is gone while it runs, and goes on once it is back', async () => {
    const gone = 'laws/99.jsonl';
    // More files than are read ahead.
    for (let file = 10; file < 100; file++) {
      const texts = TEXTS.slice(0, 20).map((text) => text + 'б'.repeat(4000));
      await stand.write(`laws/${file}.jsonl`, jsonLines(texts));
    }
    const text = await Bun.file(stand.path(gone)).text();
    stand.answer = async () => {
      await rm(stand.path(gone), { force: true });
      return undefined;
    };
    const job = words(stand.path('laws'), stand.path('out'), '--concurrency', '1');
    await expect(stand.embed(job)).rejects.toMatchObject({
      code: 'CORPUS_SOURCE_FAILED',
      exitStatus: 5,
      message: expect.stringContaining(stand.path(gone)),
    });
    stand.answer = undefined;
    await expect(stand.embed(job)).rejects.toMatchObject({
      code: 'CORPUS_JOB_DIFFERS',
      message: expect.stringContaining(stand.path(gone)),
    });
    await stand.write(gone, text);
    const report = await stand.embed(job);
    expect(report.texts).toBe(1800);
    expect(report.textsNow).toBeLessThan(1800);
  });

  test('sees a source that changes while it is read', async () => {
    // More than is read ahead.
    const long = TEXTS.map((text) => text + 'б'.repeat(4000));
    const source = await stand.write('laws.jsonl', jsonLines(long));
    stand.answer = async () => {
      await stand.write('laws.jsonl', jsonLines(long.map((text) => text.replace('с', 'ш'))));
      return undefined;
    };
    const job = stand.embed(words(source, stand.path('out'), '--concurrency', '1'));
    await expect(job).rejects.toMatchObject({ code: 'CORPUS_SOURCE_CHANGED' });
  });
});
