import { connect, type Socket } from 'node:net';
import type { FakeReply } from '../../../src/testing/fake-triton-wire.ts';
import { type TritonFault, writeFault } from '../../../src/testing/triton/write-repository.ts';
import { type DebianProgram, findDebianProgram } from '../../ci/unpack-debian.ts';
import type { FaultRig, FirstEndpoint } from './fault-rig.ts';

/** One trouble, and its end. */
export interface Fault {
  readonly name: string;
  readonly first: FirstEndpoint;
  /** Whether a second endpoint makes a difference. */
  readonly isOfEndpoint: boolean;
  readonly isFullDisk?: boolean;
  /** The server starts on mapped weights that have gone bad since it last ran. */
  readonly hasDamagedWeights?: boolean;
  /** What the server finds in its environment. */
  readonly environment?: Readonly<Record<string, string>>;
  inject(rig: FaultRig): void | Promise<void>;
  heal(rig: FaultRig): void | Promise<void>;
}

const nothing = (): void => undefined;

function byControlFile(name: string, fault: TritonFault, delayMs?: number): Fault {
  const delay = delayMs === undefined ? {} : { delayMs };
  return {
    name,
    first: 'real',
    isOfEndpoint: true,
    inject: ({ controlFile }) => writeFault({ controlFile, fault, ...delay }),
    heal: async ({ controlFile, triton }) => {
      writeFault({ controlFile, fault: 'none' });
      if (fault === 'crash') await triton.restart();
    },
  };
}

function byFake(name: string, behaviour: Parameters<FaultRig['fake']['behave']>[0]): Fault {
  return {
    name,
    first: 'fake',
    isOfEndpoint: true,
    inject: ({ fake }) => fake.behave(behaviour),
    heal: ({ fake }) => fake.behave({ kind: 'answer' }),
  };
}

const halfTheRows = (reply: FakeReply): void => {
  const [textCount = 0, dimension = 0] = reply.shape;
  Object.assign(reply, { shape: [textCount * 2, dimension / 2] });
};

/** Of the machine, or else unpacked for it: before the network is taken away. */
export function findNft(): DebianProgram {
  return findDebianProgram('nft', 'nftables');
}

function nft(rule: string): void {
  const { program, environment } = findNft();
  const { exitCode, stderr } = Bun.spawnSync([program, rule], { env: environment });
  if (exitCode !== 0) throw new Error(`nft ${rule}: ${stderr}`);
}

/** Every connection to the first endpoint falls silent, as when a firewall drops what it sends. */
function dropTo(port: string): void {
  const rules = [
    'add table ip faults',
    'add chain ip faults out { type filter hook output priority 0 ; }',
    `add rule ip faults out tcp dport ${port} drop`,
    `add rule ip faults out tcp sport ${port} drop`,
  ];
  for (const rule of rules) nft(rule);
}

const sockets: Socket[] = [];

/** Callers with long documents who will hang up before they are answered. */
function openWave(url: string): void {
  const document = 'договор аренды нежилого помещения и порядок расчётов сторон '.repeat(60);
  const body = Buffer.from(JSON.stringify({ query: Array.from({ length: 8 }, () => document) }));
  const head = `POST /encode HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n`;
  for (let index = 0; index < 32; index++) {
    const socket = connect(Number(new URL(url).port), '127.0.0.1');
    socket.on('error', nothing);
    socket.write(head);
    socket.write(body);
    sockets.push(socket);
  }
}

const ofTheServer = { first: 'fake', isOfEndpoint: false } as const;

export const FAULTS: readonly Fault[] = [
  {
    name: 'Triton killed, restarted after 3 s',
    first: 'real',
    isOfEndpoint: true,
    inject: ({ triton }) => triton.signal('SIGKILL'),
    heal: ({ triton }) => triton.restart(),
  },
  {
    name: 'Triton stopped (SIGSTOP)',
    first: 'real',
    isOfEndpoint: true,
    inject: ({ triton }) => triton.signal('SIGSTOP'),
    heal: ({ triton }) => triton.signal('SIGCONT'),
  },
  byControlFile('slow: 300 ms more a batch', 'slow', 300),
  byControlFile('200 with an empty body', 'empty'),
  byFake('truncated', { kind: 'truncate' }),
  byFake('gzip, unasked', { kind: 'gzip' }),
  byFake('wrong shape', { kind: 'lie', change: halfTheRows }),
  byControlFile('NaN', 'nan'),
  byFake('400', { kind: 'status', status: 400, body: '{"error":"unexpected shape"}' }),
  byControlFile('500', 'error'),
  byFake('503', { kind: 'status', status: 503, body: '{"error":"exceeds maximum queue size"}' }),
  byFake('resetting', { kind: 'reset' }),
  byControlFile('model process crashed: 500 until a restart', 'crash'),
  {
    name: 'half-open: a firewall drops all packets',
    first: 'fake',
    isOfEndpoint: true,
    inject: ({ fake }) => dropTo(new URL(fake.url).port),
    heal: () => nft('delete table ip faults'),
  },
  {
    name: 'restarted with another model of the same shape',
    first: 'real',
    isOfEndpoint: true,
    inject: async ({ triton, writeModel }) => {
      writeModel('trivial');
      triton.signal('SIGKILL');
      await triton.restart();
    },
    heal: async ({ triton, writeModel }) => {
      writeModel('faulty');
      await triton.restart();
    },
  },
  {
    name: 'tokenizer worker killed',
    ...ofTheServer,
    inject: ({ server }) => server.signal('SIGUSR2'),
    heal: nothing,
  },
  {
    name: 'inference worker killed (embedded)',
    first: 'embedded',
    isOfEndpoint: false,
    inject: ({ server }) => server.signal('SIGUSR2'),
    heal: nothing,
  },
  {
    name: 'abandoned wave: 32 callers with long texts hang up (embedded)',
    first: 'embedded',
    isOfEndpoint: false,
    inject: ({ server }) => openWave(server.url),
    heal: () => {
      for (const socket of sockets.splice(0)) socket.destroy();
    },
  },
  {
    name: 'damaged mapped weights: a page of each 4 MB flipped before the start (embedded)',
    first: 'embedded',
    isOfEndpoint: false,
    hasDamagedWeights: true,
    inject: nothing,
    heal: nothing,
  },
  {
    name: 'a dead proxy in the environment (HTTP_PROXY)',
    ...ofTheServer,
    environment: { HTTP_PROXY: 'http://127.0.0.1:9', http_proxy: 'http://127.0.0.1:9' },
    inject: nothing,
    heal: nothing,
  },
  {
    name: 'out of file descriptors',
    ...ofTheServer,
    inject: ({ server }) => {
      Bun.spawnSync(['prlimit', '--pid', String(server.pid), '--nofile=16:65536']);
      const port = Number(new URL(server.url).port);
      for (let index = 0; index < 50; index++) {
        const socket = connect(port, '127.0.0.1');
        socket.on('error', nothing);
        sockets.push(socket);
      }
    },
    heal: ({ server }) => {
      Bun.spawnSync(['prlimit', '--pid', String(server.pid), '--nofile=65536:65536']);
      for (const socket of sockets.splice(0)) socket.destroy();
    },
  },
  {
    name: 'clock jump: the process sleeps for 3 s',
    ...ofTheServer,
    inject: ({ server }) => server.signal('SIGSTOP'),
    heal: ({ server }) => server.signal('SIGCONT'),
  },
  {
    name: 'disk full: each line of the log fails',
    ...ofTheServer,
    isFullDisk: true,
    inject: nothing,
    heal: nothing,
  },
];
