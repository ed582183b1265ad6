import { dlopen, ptr } from 'bun:ffi';

/**
 * Turns off what ONNX Runtime reports to its maker: since 1.30 its Linux build keeps a device id in
 * the user's cache folder and uploads events over HTTPS. This server reports to nobody.
 *
 * To be called before the first session is created: that is when the runtime looks. It looks with
 * C's `getenv`, and an assignment to `process.env` never gets there in Bun: hence the call into
 * libc.
 *
 * @returns false where libc cannot be called; then only the variable given from outside, as
 * `run.sh`
 *   and the image give it, keeps the runtime quiet.
 */
export function disableRuntimeTelemetry(): boolean {
  // Processes that this one starts see it the usual way.
  process.env[VARIABLE] = '1';
  try {
    const libc = dlopen(LIBC_BY_PLATFORM[process.platform] ?? 'libc.so.6', {
      setenv: { args: ['ptr', 'ptr', 'i32'], returns: 'i32' },
    });
    const name = Buffer.from(`${VARIABLE}\0`);
    const value = Buffer.from('1\0');
    // setenv copies both, and 1 lets it overwrite.
    return libc.symbols.setenv(ptr(name), ptr(value), 1) === 0;
  } catch {
    return false;
  }
}

const VARIABLE = 'ORT_DISABLE_TELEMETRY';
const LIBC_BY_PLATFORM: Readonly<Record<string, string>> = { darwin: 'libSystem.dylib' };
