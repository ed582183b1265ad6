import { demand } from '../provision-error.ts';

/** Raw numbers in an entry of the archive. */
export interface Storage {
  readonly key: string;
  readonly type: 'float' | 'half';
}

/** A tensor as a view of a storage; offset and strides count elements. */
export class StorageTensor {
  readonly storage: Storage;
  readonly offset: number;
  readonly dims: readonly number[];
  readonly strides: readonly number[];

  constructor(options: {
    storage: Storage;
    offset: number;
    dims: readonly number[];
    strides: readonly number[];
  }) {
    this.storage = options.storage;
    this.offset = options.offset;
    this.dims = options.dims;
    this.strides = options.strides;
  }
}

/**
 * A name from a module: only those in `CALLS` and `STORAGES` can be used, and none is ever run as
 * Python would.
 */
class Global {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

const MARK = Symbol('mark');
const STORAGES: Readonly<Record<string, Storage['type']>> = {
  'torch FloatStorage': 'float',
  'torch HalfStorage': 'half',
};

/** What the names that we know make of their arguments. */
const CALLS: Readonly<Record<string, (args: readonly unknown[]) => unknown>> = {
  'collections OrderedDict': () => new Map(),
  'torch._utils _rebuild_tensor_v2': ([storage, offset, dims, strides]) => {
    demand(isStorage(storage) && isNumbers(dims) && isNumbers(strides), 'A tensor is malformed.');
    return new StorageTensor({ storage, offset: Number(offset), dims, strides });
  },
  'torch._utils _rebuild_parameter': ([tensor]) => tensor,
};

/**
 * Reads the subset of pickle that describes tensors: dictionaries, lists, tuples, text and numbers.
 *
 * @param label said in messages; usually the file's name.
 * @throws ProvisionError at the first thing that is neither.
 */
export function readPickle(bytes: Uint8Array, label: string): unknown {
  const machine = new PickleMachine(bytes, label);
  try {
    for (;;) {
      const opcode = machine.byte();
      if (opcode === 0x2e) return machine.pop();
      const step = OPCODES[opcode];
      demand(
        step !== undefined,
        `${label}: pickle opcode 0x${opcode.toString(16)} is not handled: this is no plain state.`,
      );
      step(machine);
    }
  } catch (error) {
    demand(!(error instanceof RangeError), `${label}: the pickle is cut short.`);
    throw error;
  }
}

class PickleMachine {
  readonly #view: DataView;
  readonly #label: string;
  readonly #stack: unknown[] = [];
  readonly memo = new Map<number, unknown>();
  #at = 0;

  constructor(bytes: Uint8Array, label: string) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#label = label;
  }

  byte(): number {
    this.#at += 1;
    return this.#view.getUint8(this.#at - 1);
  }

  uint16(): number {
    this.#at += 2;
    return this.#view.getUint16(this.#at - 2, true);
  }

  int32(): number {
    this.#at += 4;
    return this.#view.getInt32(this.#at - 4, true);
  }

  double(): number {
    this.#at += 8;
    return this.#view.getFloat64(this.#at - 8, false);
  }

  /** An integer of `length` bytes, little endian, two's complement. */
  long(length: number): number {
    let value = 0n;
    for (let index = 0; index < length; index += 1) {
      value |= BigInt(this.byte()) << BigInt(8 * index);
    }
    return Number(BigInt.asIntN(8 * length, value));
  }

  text(length: number): string {
    demand(length >= 0 && this.#at + length <= this.#view.byteLength, 'The pickle is cut short.');
    const start = this.#view.byteOffset + this.#at;
    this.#at += length;
    return new TextDecoder().decode(new Uint8Array(this.#view.buffer, start, length));
  }

  line(): string {
    let text = '';
    for (let byte = this.byte(); byte !== 0x0a; byte = this.byte())
      text += String.fromCharCode(byte);
    return text;
  }

  push(value: unknown): void {
    this.#stack.push(value);
  }

  pop(): unknown {
    demand(this.#stack.length > 0, `${this.#label}: the pickle takes more than it gives.`);
    return this.#stack.pop();
  }

  top(): unknown {
    return this.#stack.at(-1);
  }

  /** Everything above the last mark, which goes too. */
  popMark(): unknown[] {
    const at = this.#stack.lastIndexOf(MARK);
    demand(at >= 0, `${this.#label}: the pickle has no mark.`);
    return this.#stack.splice(at).slice(1);
  }

  popTuple(length: number): unknown[] {
    return Array.from({ length }, () => this.pop()).reverse();
  }

  setItems(items: readonly unknown[]): void {
    const target = this.top();
    demand(target instanceof Map, `${this.#label}: the pickle fills what is no dictionary.`);
    for (let index = 0; index < items.length; index += 2) {
      target.set(items[index], items[index + 1]);
    }
  }

  appendItems(items: readonly unknown[]): void {
    const target = this.top();
    demand(Array.isArray(target), `${this.#label}: the pickle appends to what is no list.`);
    target.push(...items);
  }

  call(): void {
    const args = this.pop();
    const callee = this.pop();
    const name = callee instanceof Global ? callee.name : String(callee);
    const call = Object.hasOwn(CALLS, name) ? CALLS[name] : undefined;
    demand(
      call !== undefined && Array.isArray(args),
      `${this.#label}: the pickle calls ${name}, which is not how a linear layer is saved.`,
    );
    this.push(call(args));
  }

  /** `('storage', type, key, device, elementCount)`. */
  loadStorage(): void {
    const id = this.pop();
    const [kind, type, key] = Array.isArray(id) ? id : [];
    const name = type instanceof Global ? type.name : '';
    const element = Object.hasOwn(STORAGES, name) ? STORAGES[name] : undefined;
    demand(
      kind === 'storage' && element !== undefined && typeof key === 'string',
      `${this.#label}: a tensor is stored as ${name || 'nothing known'}; float32 and float16 are.`,
    );
    this.push({ key, type: element } satisfies Storage);
  }
}

/**
 * What each opcode of pickle's protocols 2 to 4 does;
 * https://docs.python.org/3/library/pickletools.html.
 */
const OPCODES: Readonly<Record<number, (machine: PickleMachine) => void>> = {
  128: (m) => void m.byte(), // PROTO
  149: (m) => void m.long(8), // FRAME
  40: (m) => m.push(MARK),
  41: (m) => m.push([]), // EMPTY_TUPLE
  93: (m) => m.push([]), // EMPTY_LIST
  125: (m) => m.push(new Map()), // EMPTY_DICT
  78: (m) => m.push(null), // NONE
  136: (m) => m.push(true), // NEWTRUE
  137: (m) => m.push(false), // NEWFALSE
  75: (m) => m.push(m.byte()), // BININT1
  77: (m) => m.push(m.uint16()), // BININT2
  74: (m) => m.push(m.int32()), // BININT
  138: (m) => m.push(m.long(m.byte())), // LONG1
  71: (m) => m.push(m.double()), // BINFLOAT
  88: (m) => m.push(m.text(m.int32())), // BINUNICODE
  140: (m) => m.push(m.text(m.byte())), // SHORT_BINUNICODE
  99: (m) => m.push(new Global(`${m.line()} ${m.line()}`)), // GLOBAL
  113: (m) => void m.memo.set(m.byte(), m.top()), // BINPUT
  114: (m) => void m.memo.set(m.int32(), m.top()), // LONG_BINPUT
  148: (m) => void m.memo.set(m.memo.size, m.top()), // MEMOIZE
  104: (m) => m.push(m.memo.get(m.byte())), // BINGET
  106: (m) => m.push(m.memo.get(m.int32())), // LONG_BINGET
  116: (m) => m.push(m.popMark()), // TUPLE
  133: (m) => m.push(m.popTuple(1)),
  134: (m) => m.push(m.popTuple(2)),
  135: (m) => m.push(m.popTuple(3)),
  82: (m) => m.call(), // REDUCE
  81: (m) => m.loadStorage(), // BINPERSID
  98: (m) => void m.pop(), // BUILD: versions of the layers, which we do not need.
  115: (m) => m.setItems(m.popTuple(2)), // SETITEM
  117: (m) => m.setItems(m.popMark()), // SETITEMS
  97: (m) => m.appendItems([m.pop()]), // APPEND
  101: (m) => m.appendItems(m.popMark()), // APPENDS
};

function isStorage(value: unknown): value is Storage {
  return typeof value === 'object' && value !== null && 'key' in value && 'type' in value;
}

function isNumbers(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((part) => typeof part === 'number');
}
