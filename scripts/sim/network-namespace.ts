import { connect, createServer } from 'node:net';

/** A network of its own for a process, joined to this machine's by a cable that can be cut. */
export interface NetworkNamespace {
  /** Words of a shell that make the command after them run inside. */
  readonly shell: string;
  /** The address under which something on our loopback is reached from inside. */
  reach(url: string): Promise<string>;
  /** From here on packets are lost, both ways; connections stay open and hear nothing. */
  cut(): Promise<void>;
  mend(): Promise<void>;
  close(): Promise<void>;
}

/** A network that nobody else is likely to have: the cable's two ends. */
const HOST = '10.213.77.1';
const INSIDE = '10.213.77.2';

/**
 * Makes one, by `ip netns` and a pair of virtual cards.
 *
 * @throws Error with the words of `ip` where that is not allowed: it takes root on Linux.
 */
export async function createNetworkNamespace(): Promise<NetworkNamespace> {
  const name = `embed-sim-${process.pid}`;
  const card = `es${process.pid}`;
  const listening: { close(): void }[] = [];
  const close = async (): Promise<void> => {
    for (const server of listening) server.close();
    // The card goes with its other end.
    await ip(['netns', 'del', name]).catch(() => undefined);
  };
  await ip(['netns', 'add', name]);
  try {
    await ip(['link', 'add', card, 'type', 'veth', 'peer', 'name', 'far', 'netns', name]);
    await ip(['addr', 'add', `${HOST}/30`, 'dev', card]);
    await ip(['-n', name, 'addr', 'add', `${INSIDE}/30`, 'dev', 'far']);
    await ip(['-n', name, 'link', 'set', 'lo', 'up']);
    await ip(['-n', name, 'link', 'set', 'far', 'up']);
    await ip(['link', 'set', card, 'up']);
  } catch (error) {
    await close();
    throw error;
  }
  return {
    shell: `set -- ip netns exec ${name} "$@"`,
    async reach(url) {
      const { protocol, port } = new URL(url);
      const forwarder = await forwardTo(Number(port));
      listening.push(forwarder);
      return `${protocol}//${HOST}:${forwarder.port}`;
    },
    cut: () => ip(['link', 'set', card, 'down']),
    mend: () => ip(['link', 'set', card, 'up']),
    close,
  };
}

/** Passes connections on to a port of our loopback, where all servers of tests listen. */
async function forwardTo(port: number): Promise<{ port: number; close(): void }> {
  const server = createServer((socket) => {
    const target = connect(port, '127.0.0.1');
    socket.pipe(target).pipe(socket);
    socket.on('error', () => target.destroy());
    target.on('error', () => socket.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    server.on('error', reject).listen(0, HOST, resolve);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('it listens on no port');
  return { port: address.port, close: () => server.close() };
}

async function ip(words: readonly string[]): Promise<void> {
  const child = Bun.spawn(['ip', ...words], { stdio: ['ignore', 'ignore', 'pipe'] });
  const said = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(`ip ${words.join(' ')}: ${said.trim()}`);
}
