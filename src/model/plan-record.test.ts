import { describe, expect, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  decodeSelfCheckRow,
  encodeSelfCheckRow,
  type PlanRecord,
  planIsCurrent,
  planRecordPath,
  readPlanRecord,
  whyPlanIsStale,
} from './plan-record.ts';

const record: PlanRecord = {
  format: 1,
  model: 'bge-m3',
  madeAt: '2026-11-23T12:00:00.000Z',
  source: { from: 'hub', repository: 'a/b', revision: '0'.repeat(40), files: {} },
  graphs: { exact: { model: '', data: '' }, half: { model: '', data: '' } },
  engine: {
    tensorrt: '10.13.2',
    gpu: 'NVIDIA L4',
    image: 'triton:1',
    imageId: 'sha256:a',
    batchMax: 32,
    tokensMax: 8_192,
    bytes: 1_000,
    sha256: '',
    buildSeconds: 600,
  },
  gate: { passed: true, heads: {}, reasons: [] },
  selfCheck: { ids: [0, 2], dense: '' },
};
const use = {
  gpu: 'NVIDIA L4',
  image: 'triton:1',
  imageId: 'sha256:a',
  batchMax: 32,
  tokensMax: 8_192,
  bytes: 1_000,
};

describe('a plan', () => {
  test('is current where it was built for just this', () => {
    expect(whyPlanIsStale(record, use)).toBeUndefined();
    expect(planIsCurrent(record, use)).toBe(true);
  });

  test('is current where nothing more is known than GPU and image', () => {
    expect(planIsCurrent(record, { gpu: use.gpu, image: use.image })).toBe(true);
  });

  test('for longer texts than are needed is current', () => {
    expect(planIsCurrent(record, { ...use, tokensMax: 512 })).toBe(true);
  });

  test.each([
    [{ gpu: 'NVIDIA A10' }, 'it was built on "NVIDIA L4", this is "NVIDIA A10"'],
    [{ image: 'triton:2' }, 'it was built in triton:1, not in triton:2'],
    [{ imageId: 'sha256:b' }, 'the image triton:1 is another one than it was built in'],
    [{ batchMax: 64 }, 'it takes batches of 32, config.pbtxt says 64'],
    [{ tokensMax: 9_000 }, 'it takes 8192 tokens, the manifest says 9000'],
    [{ bytes: 999 }, 'it has 999 bytes, the record says 1000'],
  ])('is stale with %p', (change, reason) => {
    expect(whyPlanIsStale(record, { ...use, ...change })).toBe(reason);
    expect(planIsCurrent(record, { ...use, ...change })).toBe(false);
  });

  test('is stale without a record, or when it did not pass the gate', () => {
    expect(whyPlanIsStale(undefined, use)).toContain('no record');
    const refused = { ...record, gate: { ...record.gate, passed: false } };
    expect(whyPlanIsStale(refused, use)).toContain('fidelity gate');
  });
});

test('a record is read back, and anything else is no record', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'record-test-'));
  const plan = join(folder, 'model.plan');
  expect(await readPlanRecord(plan)).toBeUndefined();
  await Bun.write(planRecordPath(plan), JSON.stringify(record));
  expect(await readPlanRecord(plan)).toEqual(record);
  for (const text of ['', '{', 'null', '[]', '{"format":2}']) {
    await Bun.write(planRecordPath(plan), text);
    expect(await readPlanRecord(plan)).toBeUndefined();
  }
  await rm(folder, { recursive: true });
});

test('the row of the self-check survives its text', () => {
  const row = new Float32Array([0, 1, -0.5, 1e-20, 3, 4, 5]).subarray(1, 5);
  expect(decodeSelfCheckRow(encodeSelfCheckRow(row))).toEqual(row.slice());
});
