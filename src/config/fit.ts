import { networkInterfaces, totalmem } from 'node:os';
import { coreCountOf, readContainerLimits } from '../base/container-limits.ts';
import type { Config } from './settings.ts';

/** Variables by name, as a process has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Replaces the zeros and empty strings that stand for "choose", and keeps waits within limits. */
export function fitToMachine(config: Config, environment: Environment): Config {
  const backend = backendOf(config, environment);
  const limits = readContainerLimits();
  return {
    ...config,
    backend,
    // An IPv6 address as it stands in a URL has brackets.
    host: config.host.replace(/^\[(.*)\]$/, '$1') || everyAddress(),
    model: config.model || (backend === 'triton' ? 'bge-m3' : 'multilingual-e5-small'),
    tokenizerWorkers: config.tokenizerWorkers || planTokenizerWorkers(coreCountOf(limits), config),
    queueHoldMs: planQueueHoldMs(config),
    backgroundTextsMax: config.backgroundTextsMax || config.queueTextsMax,
    backgroundTokensMax: config.backgroundTokensMax || config.queueTokensMax,
    bodiesBytesMax: config.bodiesBytesMax || planBodiesBytes(limits.memoryBytes, config),
    repliesBytesMax: config.repliesBytesMax || quarterOf(limits.memoryBytes),
    embeddedMemoryMb: config.embeddedMemoryMb || planMemoryMb(limits.memoryBytes ?? totalmem()),
  };
}

/** What bodies, and replies, may take where no container sets less. */
const QUARTER_BYTES_MAX = 268_435_456;

/** A quarter of a container's memory. */
export function quarterOf(memoryBytes: number | undefined): number {
  const share = Math.floor((memoryBytes ?? Number.POSITIVE_INFINITY) / 4);
  return Math.min(QUARTER_BYTES_MAX, share);
}

/**
 * A quarter of a container's memory: a body counts as what decoding it takes. One body must fit all
 * the same.
 */
export function planBodiesBytes(
  memoryBytes: number | undefined,
  { bodyBytesMax }: Pick<Config, 'bodyBytesMax'>,
): number {
  return Math.max(bodyBytesMax, quarterOf(memoryBytes));
}

/**
 * The runtime ends a connection that is silent for too long, also while its request waits and then
 * is at work: so a request waits for no more than what its work leaves of that.
 */
function planQueueHoldMs({
  queueHoldMs,
  keepAliveMs,
  requestTimeoutMs,
}: Pick<Config, 'queueHoldMs' | 'keepAliveMs' | 'requestTimeoutMs'>): number {
  return keepAliveMs === 0 ? queueHoldMs : Math.min(queueHoldMs, keepAliveMs - requestTimeoutMs);
}

/** `::` takes IPv4 as well, where the machine has both. */
function everyAddress(): '::' | '0.0.0.0' {
  const addresses = Object.values(networkInterfaces()).flat();
  return addresses.some((address) => address?.family === 'IPv6') ? '::' : '0.0.0.0';
}

/** Where the model runs: `auto` is settled by whether an endpoint was named. */
export function backendOf(
  { backend }: Pick<Config, 'backend'>,
  environment: Environment,
): 'triton' | 'embedded' {
  if (backend !== 'auto') return backend;
  return environment.TRITON_URL ? 'triton' : 'embedded';
}

/**
 * Tokenizer workers of one process. Together the processes have half the cores; a process that is
 * alone has two at least, so that a long text does not stand before all others.
 */
export function planTokenizerWorkers(
  coreCount: number,
  { serverProcesses }: Pick<Config, 'serverProcesses'>,
): number {
  const share = Math.floor(coreCount / 2 / serverProcesses);
  return Math.min(4, Math.max(serverProcesses === 1 ? 2 : 1, share));
}

/**
 * Memory for the texts being computed: half of what there is. The other half is for the weights,
 * the tokenizer and the requests.
 *
 * @param memoryBytes of the machine, or what the container may have.
 */
export function planMemoryMb(memoryBytes: number): number {
  return Math.max(1, Math.floor(memoryBytes / 2 / 1e6));
}
