import { describe, expect, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  decodeSelfCheckRow,
  type EngineRecord,
  encodeSelfCheckRow,
  engineRecordPath,
  readEngineRecord,
  whyEngineIsStale,
} from './engine-record.ts';

const record: EngineRecord = {
  format: 2,
  model: 'bge-m3',
  madeAt: '2026-11-23T12:00:00.000Z',
  source: { from: 'hub', repository: 'a/b', revision: '0'.repeat(40), files: {} },
  graphs: { exact: { model: '', data: '' }, half: { model: '', data: '' } },
  engine: {
    tensorrt: '10.13.2',
    gpu: 'NVIDIA L4',
    image: 'triton:1',
    imageId: 'sha256:a',
    profiles: '64x64,16x512',
    profilesWanted: '64x64,32x512',
    attention: { precision: 'half', fusion: 'fused', fusedCount: 96, softmaxCount: 0 },
    bytes: 1_000,
    sha256: '',
    buildSeconds: 600,
  },
  gate: { passed: true, heads: {}, reasons: [] },
  selfCheck: { ids: [0, 2], dense: '' },
};
const use = {
  model: 'bge-m3',
  revision: '0'.repeat(40),
  gpu: 'NVIDIA L4',
  image: 'triton:1',
  imageId: 'sha256:a',
  profilesWanted: '64x64,32x512',
  bytes: 1_000,
};

describe('an engine', () => {
  test('is current where it was asked for just this, whatever fitted', () => {
    expect(whyEngineIsStale(record, use)).toBeUndefined();
  });

  test('is current where nothing more is known than GPU and image', () => {
    expect(whyEngineIsStale(record, { gpu: use.gpu, image: use.image })).toBeUndefined();
  });

  test.each([
    [{ model: 'other' }, 'it is one of bge-m3, not of other'],
    [{ revision: 'abc' }, `it was built from revision ${'0'.repeat(40)}, not from abc`],
    [{ gpu: 'NVIDIA A10' }, 'it was built on "NVIDIA L4", this is "NVIDIA A10"'],
    [{ image: 'triton:2' }, 'it was built in triton:1, not in triton:2'],
    [{ imageId: 'sha256:b' }, 'the image triton:1 is another one than it was built in'],
    [
      { profilesWanted: '64x64,64x512' },
      'it was built for batches of 64x64,32x512, not of 64x64,64x512',
    ],
    [{ bytes: 999 }, 'it has 999 bytes, the record says 1000'],
  ])('is stale with %p', (change, reason) => {
    expect(whyEngineIsStale(record, { ...use, ...change })).toBe(reason);
  });

  test('is stale without a record, or when it did not pass the gate', () => {
    expect(whyEngineIsStale(undefined, use)).toContain('no record');
    const refused = { ...record, gate: { ...record.gate, passed: false } };
    expect(whyEngineIsStale(refused, use)).toContain('fidelity gate');
  });
});

test('a record is read back, and anything else is no record', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'record-test-'));
  const path = join(folder, 'model.plan');
  expect(await readEngineRecord(path)).toBeUndefined();
  await Bun.write(engineRecordPath(path), JSON.stringify(record));
  expect(await readEngineRecord(path)).toEqual(record);
  for (const text of ['', '{', 'null', '[]', '{"format":1}']) {
    await Bun.write(engineRecordPath(path), text);
    expect(await readEngineRecord(path)).toBeUndefined();
  }
  await rm(folder, { recursive: true });
});

test('the row of the self-check survives its text', () => {
  const row = new Float32Array([0, 1, -0.5, 1e-20, 3, 4, 5]).subarray(1, 5);
  expect(decodeSelfCheckRow(encodeSelfCheckRow(row))).toEqual(row.slice());
});
