import { BlockList, isIP } from 'node:net';

/** Finds the address of who sent a request, from who is connected and X-Forwarded-For. */
export type CallerAddress = (
  peer: string | undefined,
  forwardedFor: string | null,
) => string | undefined;

/**
 * Behind a proxy everybody comes from one address, and would be one caller. A proxy adds to
 * X-Forwarded-For whom it was called by, at the right; what stands to the left of that came with
 * the call and may be made up. So it is read from the right, as far as those who wrote it are
 * trusted: the first who is no trusted proxy is the caller.
 *
 * `Forwarded` is not read. A proxy that writes the one header passes the other on as it came, and
 * whoever calls could then choose who it is.
 *
 * @param trusted addresses, networks like `10.0.0.0/8`, and `unix` for the Unix socket, where no
 * peer has an address. Empty: nobody is believed.
 */
export function createCallerAddress(trusted: readonly string[]): CallerAddress {
  if (trusted.length === 0) return (peer) => peer;
  const proxies = new BlockList();
  for (const word of trusted) {
    if (word === 'unix') continue;
    const [address = '', bits] = word.split('/');
    const family = familyOf(address);
    if (bits === undefined) proxies.addAddress(address, family);
    else proxies.addSubnet(address, Number(bits), family);
  }
  const trustsSocket = trusted.includes('unix');
  const isTrusted = (address: string): boolean => proxies.check(address, familyOf(address));

  return (connected, forwardedFor) => {
    const peer = connected === undefined ? undefined : plainAddress(connected);
    const isBelieved = peer === undefined ? trustsSocket : isTrusted(peer);
    if (!isBelieved || forwardedFor === null) return peer;
    let caller = peer;
    for (const entry of forwardedFor.split(',').reverse()) {
      const address = plainAddress(entry.trim());
      // What names nobody ends it: whoever wrote it is the last that is known.
      if (address === undefined) return caller;
      caller = address;
      if (!isTrusted(address)) return caller;
    }
    return caller;
  };
}

const familyOf = (address: string): 'ipv4' | 'ipv6' => (isIP(address) === 6 ? 'ipv6' : 'ipv4');

/** Without a port, brackets, or the form that IPv6 has for an address of IPv4. */
function plainAddress(entry: string): string | undefined {
  const bare = /^\[(.*)\](?::\d+)?$/.exec(entry)?.[1] ?? entry.replace(/^([\d.]+):\d+$/, '$1');
  const address = bare.replace(/^::ffff:(?=\d+\.)/i, '');
  return isIP(address) === 0 ? undefined : address;
}
