import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startFakeTriton } from '../fake-triton.ts';
import { deterministicEmbedding } from '../triton/deterministic-embedding.ts';
import { type RunningTriton, startTriton } from '../triton/start-triton.ts';
import { writeRepository } from '../triton/write-repository.ts';
import { tritonBackendOn } from '../triton-backend-on.ts';
import { describeBackendContract } from './backend-contract.ts';

// Triton starts in half a second, and may take three to stop.
setDefaultTimeout(60_000);

const DIMENSION = 1024;
const TOKEN_COUNT_MAX = 8192;

const shared = {
  dimension: DIMENSION,
  tokenCountMax: TOKEN_COUNT_MAX,
  tolerance: 0,
  rowOf: (ids: Int32Array) => deterministicEmbedding(ids, DIMENSION),
};

describe('a real Triton', () => {
  const dir = mkdtempSync(join(tmpdir(), 'triton-contract-'));
  const model = { kind: 'deterministic', dimension: DIMENSION, maxBatch: 32 } as const;
  let triton: RunningTriton | undefined;

  beforeAll(async () => {
    const narrow = { inputs: { ids: 'ids', mask: 'token_mask' }, output: 'dense' };
    writeRepository({
      dir,
      models: [
        { ...model, name: 'wide', datatype: 'INT64' },
        { ...model, ...narrow, name: 'narrow', datatype: 'INT32' },
      ],
    });
    triton = await startTriton({ repository: dir });
  });
  afterAll(async () => {
    await triton?.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  for (const name of ['wide', 'narrow'] as const) {
    describeBackendContract({
      ...shared,
      name: `real Triton, ${name === 'wide' ? 'INT64' : 'INT32, other tensor names'}`,
      async open() {
        const urls = [triton?.url ?? ''];
        const backend = tritonBackendOn({ urls, model: name, dimension: DIMENSION });
        return { backend, close: () => backend.close() };
      },
    });
  }
});

describe('a fake Triton', () => {
  for (const datatype of ['INT64', 'INT32'] as const) {
    const problems: string[] = [];
    describeBackendContract({
      ...shared,
      name: `fake Triton, ${datatype}`,
      async open() {
        const options = { model: 'fake', datatype, dimension: DIMENSION, batchTextsMax: 32 };
        const fake = await startFakeTriton(options);
        const urls = [fake.url];
        const backend = tritonBackendOn({ urls, model: 'fake', dimension: DIMENSION });
        return {
          backend,
          async close() {
            await backend.close();
            await fake.stop();
            problems.push(...fake.problems);
          },
        };
      },
    });
    test(`nothing that the fake received was wrong, ${datatype}`, () => {
      expect(problems).toEqual([]);
    });
  }
});
