import { afterEach, expect, test } from 'bun:test';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../base/clock.ts';
import { createLog } from '../../base/log.ts';
import { until } from '../../testing/until.ts';
import { headSet } from '../../vectors/output.ts';
import { createSharedMemory, type SharedMemory } from './shared-memory.ts';
import { createTritonBackend } from './triton-backend.ts';
import type { SharedSlot, TritonReply, TritonRequest } from './triton-call.ts';
import type { TritonModel } from './triton-model.ts';
import { decodeSharedReply, encodeSharedRequest, layoutOf } from './triton-wire.ts';

const DIMENSION = 4;
const SIGNATURE = {
  idsInput: 'ids',
  maskInput: 'mask',
  inputDatatype: 'INT64',
  outputs: { dense: 'dense_vecs' },
  dimension: DIMENSION,
  padId: 1,
} as const;
const MODEL: TritonModel = { signature: SIGNATURE, batchTextsMax: 32, profiles: undefined };
const BATCH = { texts: [Int32Array.of(0, 5, 2)], paddedLength: 3, heads: headSet(['dense']) };
const LAYOUT = layoutOf(BATCH, SIGNATURE);

const METADATA = {
  inputs: ['ids', 'mask'].map((name) => ({ name, datatype: 'INT64' })),
  outputs: [{ name: 'dense_vecs', datatype: 'FP32', shape: [-1, DIMENSION] }],
};

/** A server in this process, which writes into the regions that it was told of. */
class Server {
  readonly regions = new Map<string, Uint8Array<ArrayBuffer>>();
  row = Float32Array.of(1, 0, 0, 0);
  /** Forgets to write, or writes something else. */
  rowOf: (() => Float32Array) | undefined = () => this.row;
  readonly call = async (request: TritonRequest): Promise<TritonReply> => {
    const { pathname } = new URL(request.address);
    const region = /region\/([^/]+)\/(un)?register$/.exec(pathname);
    if (region?.[2] !== undefined) this.regions.delete(region[1]);
    else if (region !== null) {
      this.regions.set(region[1], Bun.mmap(join('/dev/shm', region[1]), { shared: true }));
    } else if (pathname.endsWith('/infer')) return this.#infer(request);
    else if (pathname === '/v2/models/m') return replyOf(METADATA);
    return replyOf([]);
  };

  /** What a model instance does at the end of its work, however long its caller has gone. */
  write(region: Uint8Array<ArrayBuffer>, row: Float32Array): void {
    new Float32Array(region.buffer, region.byteOffset + LAYOUT.outputs[0].from, 4).set(row);
  }

  #infer({ body = new Uint8Array() }: TritonRequest): TritonReply {
    const text = new TextDecoder().decode(body);
    const name = /"shared_memory_region":"([^"]+)"/.exec(text)?.[1];
    const output = { name: 'dense_vecs', datatype: 'FP32', shape: [1, DIMENSION] };
    if (name === undefined) {
      const parameters = { binary_data_size: 16 };
      const head = JSON.stringify({ outputs: [{ ...output, parameters }] });
      const row = new Uint8Array(this.row.buffer);
      return replyOf(Buffer.concat([Buffer.from(head), row]), head.length);
    }
    const at = Number(/"dense_vecs".*"shared_memory_offset":(\d+)/.exec(text)?.[1]);
    const memory = this.regions.get(name);
    if (memory === undefined) {
      return {
        ...replyOf({ error: `Unable to find shared memory region: '${name}'` }),
        status: 400,
      };
    }
    const row = this.rowOf?.();
    if (row !== undefined) new Float32Array(memory.buffer, memory.byteOffset + at, 4).set(row);
    return replyOf({ outputs: [output] });
  }
}

function replyOf(body: object, headerBytes?: number): TritonReply {
  const bytes = body instanceof Uint8Array ? body : Buffer.from(JSON.stringify(body));
  const length = headerBytes === undefined ? null : String(headerBytes);
  return { status: 200, headers: { get: () => length }, body: new Uint8Array(bytes) };
}

let memory: SharedMemory | undefined;
afterEach(() => memory?.close());

function memoryOn(server: Server, mode: 'auto' | 'on' = 'on'): SharedMemory {
  memory = createSharedMemory({
    ...{ mode, bytes: 1 << 23, slotCount: 2, timeoutMs: 1000, call: server.call },
    ...{ url: 'http://triton', modelUrl: 'http://triton/v2/models/m' },
    log: createLog({ level: 'error', write: () => undefined }),
  });
  return memory;
}

/** A slot, once there is a free one. */
async function slotOf(shared: SharedMemory, bytes = LAYOUT.bytes): Promise<SharedSlot> {
  let slot: SharedSlot | undefined;
  await until('a slot is free', () => {
    slot = shared.take(bytes);
    return slot !== undefined;
  });
  if (slot === undefined) throw new Error('a slot is free');
  return slot;
}

/** Caught, planted: an abandoned slot given back; a slot of before a restart given back. */
test('a row written after its call was given up reaches no other batch', async () => {
  const server = new Server();
  const shared = memoryOn(server);
  await shared.connect(MODEL);
  const late: Uint8Array<ArrayBuffer>[] = [];
  for (let round = 0; round < 20; round++) {
    const slot = await slotOf(shared);
    const region = server.regions.get(slot.name);
    if (region === undefined) throw new Error('the server knows each slot');
    encodeSharedRequest(BATCH, SIGNATURE, { region: slot, layout: LAYOUT });
    if (round % 3 === 0) {
      slot.abandon();
      late.push(region);
      expect(existsSync(join('/dev/shm', slot.name))).toBe(false);
      continue;
    }
    server.write(region, Float32Array.of(0, 1, 0, 0));
    for (const given of late) server.write(given, Float32Array.of(0, 0, 0, 1));
    const reply = replyOf({ outputs: [{ name: 'dense_vecs', datatype: 'FP32', shape: [1, 4] }] });
    const place = { region: slot, layout: LAYOUT };
    const { dense } = decodeSharedReply(reply.body, { signature: SIGNATURE, batch: BATCH }, place);
    expect([...(dense?.values(0, 4) ?? [])]).toEqual([0, 1, 0, 0]);
    slot.free();
  }
  expect(late.length).toBeGreaterThan(2);
});

test('a slot of before a restart is not used again', async () => {
  const server = new Server();
  const shared = memoryOn(server);
  await shared.connect(MODEL);
  const before = shared.take(LAYOUT.bytes);
  server.regions.clear();
  await shared.connect(MODEL);
  before?.free();
  for (const slot of [shared.take(LAYOUT.bytes), shared.take(LAYOUT.bytes)]) {
    expect(slot?.name).not.toBe(before?.name);
    expect([...server.regions.keys()]).toContain(slot?.name ?? '');
  }
  expect(shared.take(LAYOUT.bytes)).toBeUndefined();
});

/** Caught, planted: no marks before a batch, so that the row of the batch before stays. */
test('a Triton that answers without having written gives no row', async () => {
  const server = new Server();
  const shared = memoryOn(server);
  await shared.connect(MODEL);
  const slot = shared.take(LAYOUT.bytes);
  if (slot === undefined) throw new Error('a slot is free');
  const place = { region: slot, layout: LAYOUT };
  server.write(slot.memory, Float32Array.of(0, 1, 0, 0));
  encodeSharedRequest(BATCH, SIGNATURE, place);
  const reply = replyOf({ outputs: [{ name: 'dense_vecs', datatype: 'FP32', shape: [1, 4] }] });
  const { dense } = decodeSharedReply(reply.body, { signature: SIGNATURE, batch: BATCH }, place);
  expect(dense?.values(0, 1)[0]).toBeNaN();
  slot.free();
});

test.each([
  ['another row', () => Float32Array.of(0, 1, 0, 0)],
  ['no row', undefined],
])('a region through which %s comes is not used', async (_, rowOf) => {
  const server = new Server();
  server.rowOf = rowOf;
  await expect(memoryOn(server).connect(MODEL)).rejects.toThrow('there is no shared memory');
  const shared = memoryOn(server, 'auto');
  await shared.connect(MODEL);
  expect(shared.reason).toContain('is not the one over HTTP');
  expect(shared.take(LAYOUT.bytes)).toBeUndefined();
});

/** Caught, planted: a slot of the first size given back after larger ones were wanted. */
test('slots are small until a larger batch comes, and all of them grow then', async () => {
  const server = new Server();
  const shared = memoryOn(server);
  await shared.connect(MODEL);
  const [small, other] = [await slotOf(shared), await slotOf(shared)];
  expect([small.memory.length, other.memory.length]).toEqual([1 << 20, 1 << 20]);
  other.free();

  expect(shared.take(3 << 20)).toBeUndefined();
  const large = await slotOf(shared, 3 << 20);
  expect(large.memory.length).toBe(1 << 22);
  small.free();
  const next = await slotOf(shared, 3 << 20);
  expect(next.memory.length).toBe(1 << 22);

  for (const gone of [small, other]) expect(existsSync(join('/dev/shm', gone.name))).toBe(false);
  await until('Triton forgot the small ones', () => server.regions.size === 2);
  expect(shared.take(5 << 20)).toBeUndefined();
  large.free();
  expect(shared.take(5 << 20)).toBeUndefined();
  expect(shared.take(LAYOUT.bytes)?.name).toBe(large.name);
});

test('a server that was restarted faster than it was missed is a model come up anew', async () => {
  const server = new Server();
  const backend = createTritonBackend({
    ...{ urls: ['http://triton'], modelName: 'm', timeoutMs: 1000, probeMs: 60_000 },
    ...{ batchesInFlight: 2, batchTextsMax: 32, batchTokensMax: 4096, multiVectorTokensMax: 4096 },
    expected: { dimension: DIMENSION, padId: 1, heads: ['dense'], outputs: {} },
    sharedMemory: { mode: 'on', bytes: 1 << 23 },
    call: (request) => ({ reply: server.call(request), cancel: () => undefined }),
    clock: systemClock,
    log: createLog({ level: 'error', write: () => undefined }),
  });
  const rowOf = async (): Promise<readonly number[]> => {
    const { dense, giveBack } = await backend.infer(BATCH);
    const row = [...(dense?.values(0, DIMENSION) ?? [])];
    giveBack?.();
    return row;
  };
  try {
    await until('it is up', () => backend.state().isReady);
    expect(await rowOf()).toEqual([1, 0, 0, 0]);
    expect(backend.modelStarts).toBe(1);
    server.regions.clear();
    const again = [1, 0, 0, 0];
    expect(await Promise.all([rowOf(), rowOf()])).toEqual([again, again]);
    expect(backend.modelStarts).toBe(2);
    expect(backend.endpoints.list()[0].overHttp).toBe('');
    server.regions.clear();
    server.row = Float32Array.of(0.5, 0.5, 0.5, 0.5);
    await expect(rowOf()).rejects.toMatchObject({ code: 'EMB_BACKEND_UNAVAILABLE' });
    expect(backend.state().reason).toContain('it is another model');
  } finally {
    await backend.close();
  }
});
