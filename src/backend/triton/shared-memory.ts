import { ServerError } from '../../base/errors.ts';
import { describeError, type Log } from '../../base/log.ts';
import { headSet } from '../../vectors/output.ts';
import {
  createSharedFile,
  isLeftBehind,
  removeLeftBehind,
  type SharedFile,
} from './shared-files.ts';
import {
  inferCallOf,
  inferOutputOf,
  type SharedSlot,
  sharedCallOf,
  type TritonReply,
  type TritonRequest,
} from './triton-call.ts';
import { PROBE_IDS, type TritonModel } from './triton-model.ts';
import {
  decodeSharedReply,
  encodeInferRequest,
  encodeSharedRequest,
  layoutOf,
} from './triton-wire.ts';

/** TRITON_SHARED_MEMORY and its size. */
export interface SharedMemoryOptions {
  /** `on`: an endpoint without it is down. `auto`: it is spoken to over HTTP alone. */
  readonly mode: 'auto' | 'on';
  /** Of all slots of one endpoint. */
  readonly bytes: number;
}

/** Shared memory with one Triton server. */
export interface SharedMemory {
  /** Why batches go over HTTP; empty while they need not. */
  readonly reason: string;
  /**
   * Makes and registers the slots for a server that has come up.
   *
   * @throws Error with mode `on` when that cannot be.
   */
  connect(model: TritonModel): Promise<void>;
  /** The server is down or forgot its regions: those there are are of no use any more. */
  disconnect(): void;
  /**
   * A slot for a batch of so many bytes. Undefined when none is free or large enough: the batch goes
   * over HTTP, and slots that it would fit are made for those after it, within the bound.
   */
  take(bytes: number): SharedSlot | undefined;
  /** Removes all regions, here and at the server. */
  close(): Promise<void>;
}

/** More regions that Triton may still write to are not left behind; then HTTP has to do. */
const ABANDONED_MAX = 8;

/**
 * Of a slot at first: a batch of dense and sparse rows fits. The runtime counts mapped bytes as
 * used heap, whether they were touched or not, and lets as much garbage stand before it collects.
 * So a slot is as small as the batches that were seen, not as large as they may become.
 */
const FIRST_SLOT_BYTES = 1 << 20;

/** How long a server may take to forget a region when we end, in ms. */
const FAREWELL_MS = 1000;

const DENSE = headSet(['dense']);

/**
 * Keeps a ring of slots, each a region of its own.
 *
 * A slot is used by one batch at a time. It is free again when Triton has answered and each row
 * was copied to the request that it is for. When a call was given up, Triton may write its rows
 * late, so the slot is never used again: its file loses its name, Triton is told to forget the
 * region, and a new one takes its place. A late row is then written to memory that nobody looks at.
 *
 * Each slot serves batches only after the probe's row was read back through it, bit for bit as over
 * HTTP. So a Triton on another machine, one that refuses, and one whose memory is another's are all
 * found out the same way.
 */
export function createSharedMemory(
  options: SharedMemoryOptions & {
    url: string;
    modelUrl: string;
    slotCount: number;
    timeoutMs: number;
    call: (request: TritonRequest) => Promise<TritonReply>;
    log: Log;
  },
): SharedMemory {
  const { url, modelUrl, slotCount, timeoutMs, call, log } = options;
  const slotBytesMax = Math.floor(options.bytes / slotCount / 4096) * 4096;
  let slotBytes = Math.min(FIRST_SLOT_BYTES, slotBytesMax);
  const free: SharedFile[] = [];
  const busy = new Set<SharedFile>();
  /** Names that Triton may still know although nobody here does. */
  const abandoned = new Set<string>();
  let model: TritonModel | undefined;
  let probeRow: Float32Array | undefined;
  let reason = 'It was not tried yet.';
  let toldReason = '';
  let connecting: Promise<void> | undefined;
  /** Slots of an earlier generation are unknown to the server that is there now. */
  let generation = 0;
  let refilling: Promise<void> | undefined;
  let isSwept = false;

  function connect(found: TritonModel): Promise<void> {
    connecting ??= makeSlots(found).finally(() => {
      connecting = undefined;
    });
    return connecting;
  }

  async function makeSlots(found: TritonModel): Promise<void> {
    disconnect();
    try {
      if (!isSwept) await sweep();
      isSwept = true;
      // A server that hung was told in vain; one that was restarted has forgotten them.
      await Promise.all([...abandoned].map((name) => unregister(name)));
      probeRow = await rowOverHttp(found);
      while (free.length < slotCount) free.push(await openSlot(found));
      model = found;
      reason = '';
      tellSize();
    } catch (error) {
      disconnect();
      reason = describeError(error);
      if (options.mode === 'on') throw new Error(`there is no shared memory with it: ${reason}`);
      if (reason !== toldReason) log.info('triton-over-http', { url, reason });
      toldReason = reason;
    }
  }

  function disconnect(): void {
    model = undefined;
    generation++;
    reason = 'The server went away.';
    for (const slot of free.splice(0)) forget(slot);
  }

  /** Regions that servers of ours left here and at Triton when they were killed. */
  async function sweep(): Promise<void> {
    const files = removeLeftBehind();
    const reply = await ask('systemsharedmemory/status', 'GET');
    const known: unknown = JSON.parse(new TextDecoder().decode(reply.body));
    const regions = Array.isArray(known) ? (known as { name?: unknown }[]) : [];
    for (const { name } of regions) {
      if (typeof name === 'string' && isLeftBehind(name)) await unregister(name);
    }
    if (files.length > 0) log.info('shared-memory-swept', { url, regions: files.length });
  }

  /** A region that Triton knows, and through which it has given the right row. */
  async function openSlot(found: TritonModel): Promise<SharedFile> {
    const slot = createSharedFile(slotBytes);
    try {
      const body = { key: `/${slot.name}`, offset: 0, byte_size: slotBytes };
      await ask(`systemsharedmemory/region/${slot.name}/register`, 'POST', body);
      const row = await rowThrough(slot, found);
      const isSame = row.every((value, at) => Object.is(value, probeRow?.[at]));
      if (!isSame) throw new Error('the row read from shared memory is not the one over HTTP');
      return slot;
    } catch (error) {
      forget(slot);
      throw error;
    }
  }

  async function rowThrough(slot: SharedFile, { signature }: TritonModel): Promise<Float32Array> {
    const batch = { texts: [PROBE_IDS], paddedLength: PROBE_IDS.length, heads: DENSE };
    const place = { region: slot, layout: layoutOf(batch, signature) };
    const request = sharedCallOf(modelUrl, encodeSharedRequest(batch, signature, place));
    const reply = await call({ ...request, isFreshConnection: true, timeoutMs });
    refuseUnlessOk(reply);
    const { dense } = decodeSharedReply(reply.body, { signature, batch }, place);
    return dense?.values(0, signature.dimension) ?? new Float32Array();
  }

  async function rowOverHttp({ signature }: TritonModel): Promise<Float32Array> {
    const batch = { texts: [PROBE_IDS], paddedLength: PROBE_IDS.length, heads: DENSE };
    const request = encodeInferRequest(batch, signature, (bytes) => new ArrayBuffer(bytes));
    const asked = inferCallOf(modelUrl, request);
    const reply = await call({ ...asked, isFreshConnection: true, timeoutMs });
    const { dense } = inferOutputOf(reply, { signature, batch });
    return dense?.values(0, signature.dimension).slice() ?? new Float32Array();
  }

  /** A slot serves again, unless it is of an earlier generation or has become too small. */
  function keep(slot: SharedFile, madeIn: number): void {
    if (generation === madeIn && slot.memory.length >= slotBytes) free.push(slot);
    else forget(slot);
  }

  function tellSize(): void {
    log.info('triton-shared-memory', { url, slots: slotCount, bytes: slotCount * slotBytes });
  }

  /** Takes a slot's name away, and asks Triton to forget it in its own time. */
  function forget(slot: SharedFile): void {
    slot.remove();
    abandoned.add(slot.name);
    void unregister(slot.name);
  }

  async function unregister(name: string, limitMs = timeoutMs): Promise<void> {
    try {
      await ask(`systemsharedmemory/region/${name}/unregister`, 'POST', undefined, limitMs);
      abandoned.delete(name);
    } catch {
      // A server that is gone has forgotten it; one in which it is still used is asked again.
    }
  }

  async function ask(
    path: string,
    method: 'GET' | 'POST',
    body?: object,
    limitMs = timeoutMs,
  ): Promise<TritonReply> {
    const bytes = new TextEncoder().encode(body === undefined ? '' : JSON.stringify(body));
    const reply = await call({
      address: `${url}/v2/${path}`,
      method,
      ...(method === 'POST' ? { body: bytes } : {}),
      isFreshConnection: true,
      timeoutMs: limitMs,
    });
    refuseUnlessOk(reply);
    return reply;
  }

  function take(bytes: number): SharedSlot | undefined {
    if (model === undefined || bytes > slotBytesMax) return undefined;
    if (bytes > slotBytes) grow(bytes);
    if (free.length + busy.size < slotCount) refill(model);
    const slot = free.pop();
    if (slot === undefined) return undefined;
    busy.add(slot);
    const takenIn = generation;
    return {
      ...slot,
      free() {
        busy.delete(slot);
        keep(slot, takenIn);
      },
      abandon() {
        busy.delete(slot);
        forget(slot);
      },
    };
  }

  /** Lets larger slots take the place of those there are; batches go over HTTP meanwhile. */
  function grow(bytes: number): void {
    slotBytes = Math.min(slotBytesMax, 2 ** Math.ceil(Math.log2(bytes)));
    for (const slot of free.splice(0)) forget(slot);
    tellSize();
  }

  /** Makes the slots that are missing, one at a time and beside the batches. */
  function refill(found: TritonModel): void {
    if (refilling !== undefined) return;
    const replace = async (): Promise<void> => {
      for (const name of abandoned) await unregister(name);
      if (abandoned.size > ABANDONED_MAX) return;
      const begunIn = generation;
      const slot = await openSlot(found);
      keep(slot, begunIn);
    };
    refilling = replace()
      .catch((error) => log.warn('triton-shared-memory', { url, reason: describeError(error) }))
      .finally(() => {
        refilling = undefined;
      });
  }

  return {
    get reason() {
      return reason;
    },
    connect,
    disconnect,
    take,
    async close() {
      const slots = [...free.splice(0), ...busy];
      model = undefined;
      generation++;
      for (const slot of slots) slot.remove();
      const names = [...abandoned, ...slots.map(({ name }) => name)];
      await Promise.all(names.map((name) => unregister(name, FAREWELL_MS)));
    },
  };
}

function refuseUnlessOk(reply: TritonReply): void {
  if (reply.status === 200) return;
  const said = new TextDecoder().decode(reply.body.subarray(0, 300));
  throw new ServerError('EMB_BACKEND_FAILED', `Triton answered ${reply.status}: ${said}`);
}
