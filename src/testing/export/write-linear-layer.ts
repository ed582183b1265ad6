/** One linear layer, as `torch.save(layer.state_dict())` writes it. */
export interface LinearLayerValues {
  readonly rows: number;
  readonly columns: number;
  /** `[rows, columns]`; borrowed. */
  readonly weight: Float32Array;
  /** `[rows]`; borrowed. */
  readonly bias: Float32Array;
}

/** The bytes of a `.pt` file that holds a layer's weight and bias in float32. */
export function encodeLinearLayer(layer: LinearLayerValues): Uint8Array {
  const { rows, columns, weight, bias } = layer;
  const pickle = [
    '\x80\x02ccollections\nOrderedDict\n)R(',
    ...tensor({ name: 'weight', key: '0', dims: [rows, columns], count: weight.length }),
    ...tensor({ name: 'bias', key: '1', dims: [rows], count: bias.length }),
    'u.',
  ].join('');
  return encodeZip([
    ['layer/data.pkl', Uint8Array.from(pickle, (char) => char.charCodeAt(0))],
    ['layer/byteorder', new TextEncoder().encode('little')],
    ['layer/data/0', new Uint8Array(weight.buffer, weight.byteOffset, weight.byteLength)],
    ['layer/data/1', new Uint8Array(bias.buffer, bias.byteOffset, bias.byteLength)],
  ]);
}

function tensor(options: { name: string; key: string; dims: number[]; count: number }): string[] {
  const { name, key, dims, count } = options;
  const strides = dims.map((_, axis) => dims.slice(axis + 1).reduce((a, b) => a * b, 1));
  const tuple = (values: number[]) =>
    `${values.map(int).join('')}${values.length === 1 ? '\x85' : '\x86'}`;
  return [
    text(name),
    'ctorch._utils\n_rebuild_tensor_v2\n((',
    text('storage'),
    'ctorch\nFloatStorage\n',
    ...[text(key), text('cpu'), int(count), 'tQ', int(0), tuple(dims), tuple(strides)],
    '\x89ccollections\nOrderedDict\n)RtR',
  ];
}

function int(value: number): string {
  return `J${bytesOf(value)}`;
}

function text(value: string): string {
  return `X${bytesOf(value.length)}${value}`;
}

function bytesOf(value: number): string {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, value, true);
  return String.fromCharCode(...new Uint8Array(view.buffer));
}

/** An archive without compression, as torch's are. */
function encodeZip(entries: readonly (readonly [string, Uint8Array])[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let at = 0;
  for (const [name, content] of entries) {
    const nameBytes = new TextEncoder().encode(name);
    const facts = [Bun.hash.crc32(content), content.length, content.length];
    const local = record({ size: 30, signature: 0x04034b50, factsAt: 14, facts });
    local.setUint16(26, nameBytes.length, true);
    const central = record({ size: 46, signature: 0x02014b50, factsAt: 16, facts });
    central.setUint16(28, nameBytes.length, true);
    central.setUint32(42, at, true);
    directory.push(new Uint8Array(central.buffer), nameBytes);
    parts.push(new Uint8Array(local.buffer), nameBytes, content);
    at += local.byteLength + nameBytes.length + content.length;
  }
  const end = record({ size: 22, signature: 0x06054b50, factsAt: 0, facts: [] });
  end.setUint16(8, entries.length, true);
  end.setUint16(10, entries.length, true);
  end.setUint32(
    12,
    directory.reduce((sum, part) => sum + part.length, 0),
    true,
  );
  end.setUint32(16, at, true);
  return new Uint8Array(Buffer.concat([...parts, ...directory, new Uint8Array(end.buffer)]));
}

function record(options: {
  size: number;
  signature: number;
  factsAt: number;
  facts: readonly number[];
}): DataView {
  const view = new DataView(new ArrayBuffer(options.size));
  view.setUint32(0, options.signature, true);
  options.facts.forEach((fact, index) => {
    view.setUint32(options.factsAt + 4 * index, fact, true);
  });
  return view;
}
