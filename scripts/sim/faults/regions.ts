import { readdirSync } from 'node:fs';

/** Regions of shared memory that a server of this process id has made, as files or at a Triton. */
export async function regionsOf(pid: number, tritonUrl: string): Promise<readonly string[]> {
  const reply = await fetch(`${tritonUrl}/v2/systemsharedmemory/status`);
  const known = ((await reply.json()) as { name: string }[]).map(({ name }) => name);
  const names = new Set([...readdirSync('/dev/shm'), ...known]);
  return [...names].filter((name) => new RegExp(`^bge-encoder-\\w+-${pid}-`).test(name));
}
