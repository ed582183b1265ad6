/**
 * Under the range that Linux takes for outgoing connections (32768 up), so that between a stop and
 * a restart no client socket sits on the port, and a client that knocks at the closed port cannot
 * be joined to itself.
 */
const PORT_MIN = 20_000;
const PORT_COUNT = 12_000;

/**
 * Ports of 127.0.0.1 on which nobody listens at this moment.
 *
 * @returns `count` different ports.
 */
export function freePorts(count: number): number[] {
  const ports = new Set<number>();
  while (ports.size < count) {
    const port = PORT_MIN + Math.floor(Math.random() * PORT_COUNT);
    if (isFreePort(port)) ports.add(port);
  }
  return [...ports];
}

/** True when nobody listens on this port of 127.0.0.1 at this moment. */
export function isFreePort(port: number): boolean {
  try {
    Bun.listen({ hostname: '127.0.0.1', port, socket: { data() {} } }).stop(true);
    return true;
  } catch {
    return false;
  }
}
