import { join } from 'node:path';
import { runPython } from './run-python.ts';

/** An array as numpy held it. */
export interface PythonArray {
  /** numpy's name: `<f4`. */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Its numbers in row-major order, as they lay in memory. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/**
 * Lets Python decode a msgpack reply.
 *
 * @param options.decoder `plain` takes a map of `dtype`, `shape` and `data` apart by hand with
 *   numpy; `numpy` leaves all to msgpack-numpy.
 * @param options.reply the body; borrowed.
 * @returns the reply as Python saw it, each ndarray in it a `PythonArray`; bytes that did not
 *   become one are `{ bytes: count }`.
 * @throws Error with Python's own words when it cannot decode it.
 */
export async function decodeMsgpackInPython(options: {
  decoder: 'plain' | 'numpy';
  reply: Uint8Array<ArrayBuffer>;
}): Promise<unknown> {
  const script = join(import.meta.dir, 'decode_msgpack.py');
  const out = await runPython({ script, args: [options.decoder], stdin: options.reply });
  return JSON.parse(out, (_key, value) =>
    typeof value === 'object' && value !== null && 'hex' in value
      ? { dtype: value.dtype, shape: value.shape, bytes: Uint8Array.fromHex(value.hex) }
      : value,
  );
}
