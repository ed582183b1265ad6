import { afterEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SMALL_MODEL, writeModelsFolder } from '../golden/small-heads-harness.ts';
import { legalTexts } from '../legal-texts.ts';
import { until } from '../until.ts';
import { runCommandSync, type ServerProcess, startProcess } from './start-process.ts';

/** How the process starts, refuses to start, and ends. */

setDefaultTimeout(60_000);

const MODELS = join(import.meta.dir, '../../../models');
/** Enough that a signal arrives long before the last is done. */
const TEXT_COUNT = 8;
const started: ServerProcess[] = [];

afterEach(async () => {
  for (const server of started.splice(0)) {
    server.signal('SIGKILL');
    await server.exited;
  }
});

async function startReady(environment: Record<string, string> = {}): Promise<ServerProcess> {
  const server = await startProcess(environment);
  started.push(server);
  await until('it is ready', async () => (await fetch(`${server.url}/ready`)).ok);
  return server;
}

/**
 * Sends texts that keep the model busy, and resolves once they are in work; the reply is still to
 * come then.
 */
async function startLongRequest(
  server: ServerProcess,
): Promise<{ reply: Promise<Response | 'cut off'> }> {
  const reply = fetch(`${server.url}/encode`, {
    method: 'POST',
    body: JSON.stringify({ query: legalTexts(Array(TEXT_COUNT).fill(150), 9) }),
  }).catch(() => 'cut off' as const);
  await until('the texts are in work', async () => {
    const info = (await (await fetch(`${server.url}/info`)).json()) as {
      queue: { batches_in_flight: number };
    };
    return info.queue.batches_in_flight > 0;
  });
  return { reply };
}

/** A connection that sends nothing by itself. */
async function openSocket({ url }: ServerProcess): Promise<Socket> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  await new Promise((resolve) => socket.once('connect', resolve));
  return socket;
}

describe('SIGTERM', () => {
  test('drains: the admitted request is answered, new ones are not taken, exit status 0', async () => {
    const server = await startReady();
    const { reply } = await startLongRequest(server);
    server.signal('SIGTERM');
    await until('it drains', () => server.stderr().includes('"draining"'));
    const late = { method: 'POST', body: '{"query":"тест"}' };
    // One that comes in the turn of the signal may still be admitted.
    await until('new requests are not taken', () =>
      fetch(`${server.url}/encode`, late).then(
        ({ status }) => status === 503,
        () => true,
      ),
    );
    expect(await Promise.race([reply, 'is worked on'])).toBe('is worked on');
    const answered = await reply;
    if (answered === 'cut off') throw new Error('the admitted request was not answered');
    const { embeddings } = (await answered.json()) as { embeddings: number[][] };
    expect(embeddings).toHaveLength(TEXT_COUNT);
    expect(await server.exited).toBe(0);
  });

  test('goes on serving until balancers have looked: /ready says 503, connections end', async () => {
    const server = await startReady({ SHUTDOWN_DELAY_MS: '600000' });
    const pooled = await openSocket(server);
    const post = 'POST /encode HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n{"query":"тест"}';
    const { reply } = await startLongRequest(server);
    server.signal('SIGTERM');
    await until('it drains', () => server.stderr().includes('"draining"'));
    const ready = await fetch(`${server.url}/ready`);
    expect([ready.status, ready.headers.get('connection')]).toEqual([503, 'close']);
    expect(await ready.text()).toContain('shutting down');
    const body = '{"query":"тест"}';
    for (const [path, init, status] of [
      ['/encode', { method: 'POST', body }, 200],
      ['/health', {}, 200],
      ['/encode', { method: 'POST', body: '{' }, 400],
      ['/nowhere', {}, 404],
    ] as const) {
      const answered = await fetch(server.url + path, init);
      const told = [path, answered.status, answered.headers.get('connection')];
      expect(told).toEqual([path, status, 'close']);
    }
    pooled.write(post.replace('15', String(Buffer.byteLength(body))));
    const last = Buffer.concat(await Array.fromAsync(pooled as AsyncIterable<Buffer>)).toString();
    expect(last).toStartWith('HTTP/1.1 200');
    const answered = await reply;
    if (answered === 'cut off') throw new Error('the admitted request was not answered');
    expect([answered.status, answered.headers.get('connection')]).toEqual([200, 'close']);
  });

  test('ends when the delay is over, exit status 0; SIGINT has no delay', async () => {
    for (const [signal, delayMs] of [
      ['SIGTERM', '1'],
      ['SIGINT', '600000'],
    ] as const) {
      const server = await startReady({ SHUTDOWN_DELAY_MS: delayMs });
      server.signal(signal);
      expect(await server.exited).toBe(0);
    }
  });

  test('with nothing to do it ends at once, exit status 0', async () => {
    const server = await startReady();
    server.signal('SIGTERM');
    expect(await server.exited).toBe(0);
  });

  test('a large reply reaches a slow reader whole', async () => {
    const models = mkdtempSync(join(tmpdir(), 'small-model-'));
    try {
      await writeModelsFolder(models);
      const server = await startReady({ MODELS_DIR: models, MODEL: SMALL_MODEL });
      const socket = await openSocket(server);
      // Some 20 MB: more than all buffers between the two processes hold.
      const query = Array(100).fill('а '.repeat(600));
      const body = JSON.stringify({ query, outputs: ['multi_vector'] });
      const head = `Host: a\r\nContent-Length: ${Buffer.byteLength(body)}`;
      socket.write(`POST /encode HTTP/1.1\r\n${head}\r\n\r\n${body}`);
      await new Promise((resolve) => socket.once('readable', resolve));
      server.signal('SIGTERM');
      await until('it drains', () => server.stderr().includes('"draining"'));
      // Reads nothing for as long as another process takes to come and go.
      await runCommandSync({ PORT: 'none' });
      const reply = Buffer.concat(await Array.fromAsync(socket as AsyncIterable<Buffer>));
      const bodyStart = reply.indexOf('\r\n\r\n') + 4;
      const told = /content-length: (\d+)/i.exec(reply.subarray(0, bodyStart).toString())?.[1];
      expect(Number(told)).toBeGreaterThan(15_000_000);
      expect(reply.length - bodyStart).toBe(Number(told));
      expect(await server.exited).toBe(0);
      expect(server.stderr()).not.toContain('drain-cut-short');
    } finally {
      rmSync(models, { recursive: true, force: true });
    }
  });

  test('connections that ask for nothing do not hold it up', async () => {
    const server = await startReady({ DRAIN_TIMEOUT_MS: '600000' });
    const [silent, half, idle] = await Promise.all([1, 2, 3].map(() => openSocket(server)));
    half.write('POST /encode HTTP/1.1\r\nHost: a\r\nContent-Le');
    idle.write('GET /health HTTP/1.1\r\nHost: a\r\n\r\n');
    await new Promise((resolve) => idle.once('data', resolve));
    server.signal('SIGTERM');
    expect(await server.exited).toBe(0);
    for (const socket of [silent, half, idle]) socket.destroy();
  });

  test('past the deadline it ends all the same, and says so: to the log, and to the caller', async () => {
    const server = await startReady({ DRAIN_TIMEOUT_MS: '0' });
    const { reply } = await startLongRequest(server);
    server.signal('SIGTERM');
    expect(await server.exited).toBe(0);
    expect(server.stderr()).toContain('drain-cut-short');
    const answered = await reply;
    if (answered === 'cut off') throw new Error('nobody told the caller');
    expect(answered.status).toBe(503);
    expect(answered.headers.get('x-error-code')).toBe('EMB_SHUTTING_DOWN');
  });

  test('a second one ends it at once', async () => {
    const server = await startReady();
    const { reply } = await startLongRequest(server);
    server.signal('SIGTERM');
    await until('it drains', () => server.stderr().includes('"draining"'));
    server.signal('SIGTERM');
    expect(await server.exited).toBe(130);
    await reply;
  });
});

describe('a start that cannot work', () => {
  test('wrong settings: exit status 2, and every one of them is told', async () => {
    const { status, stderr } = await runCommandSync({
      PORT: '99999',
      BACKEND: 'gpu',
      BATCH_TEXTS_MAX: '0',
      TRITON_URL: 'localhost:8000',
      TRUNCATE: 'yes',
    });
    expect(status).toBe(2);
    for (const name of ['PORT', 'BACKEND', 'BATCH_TEXTS_MAX', 'TRITON_URL', 'TRUNCATE']) {
      expect(stderr).toMatch(new RegExp(`^${name} must be .*not "`, 'm'));
    }
    expect(stderr).not.toContain('    at ');
  });

  test('an unknown model: exit status 2, and the known ones are named', async () => {
    const { status, stderr } = await runCommandSync({ MODEL: 'no-such-model' });
    expect(status).toBe(2);
    expect(stderr).toContain('no-such-model');
    expect(stderr).toContain('multilingual-e5-small');
  });

  test('a port that is taken: exit status 3', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => {
      other.listen(0, '127.0.0.1', resolve);
    });
    try {
      const address = other.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      const { status, stderr } = await runCommandSync({ PORT: String(port) });
      expect(status).toBe(3);
      expect(stderr).toContain(String(port));
    } finally {
      other.close();
    }
  });

  test('a host that is none: exit status 3, and the setting to change', async () => {
    const { status, stderr } = await runCommandSync({ HOST: 'no-such-host.invalid' });
    expect(status).toBe(3);
    expect(stderr).toMatch(/no address of this machine\. Choose another HOST\.\n$/);
  });

  test('a mistyped setting: exit status 2, and the one that is meant', async () => {
    const { status, stderr } = await runCommandSync({ API_KEY: 'secret' });
    expect(status).toBe(2);
    expect(stderr).toContain('API_KEYS');
    expect(stderr).not.toContain('secret');
  });

  // Before, its workers died one after the other, and the server said that it was ready.
  test('a fallback without its file: exit status 4 in one line, and what to do', async () => {
    const { status, stderr } = await runCommandSync({
      TRITON_URL: 'http://127.0.0.1:9',
      FALLBACK: 'embedded',
      EMBEDDED_MODEL_FILE: 'onnx/no-such-file.onnx',
    });
    expect(status).toBe(4);
    const lines = stderr.trim().split('\n');
    expect(lines.at(-1)).toMatch(
      /^FALLBACK=embedded: .*no-such-file\.onnx is missing\. \.\/run\.sh/,
    );
    expect(lines.filter((line) => line.includes('missing')).length).toBe(1);
  });

  /** Ends with what is said of a models folder that has all but what is done to it. */
  async function startOn(damage: (folder: string) => void) {
    const models = mkdtempSync(join(tmpdir(), 'damaged-model-'));
    try {
      const name = 'multilingual-e5-small';
      cpSync(join(MODELS, `${name}.json`), join(models, `${name}.json`));
      mkdirSync(join(models, name, 'onnx'), { recursive: true });
      for (const file of readdirSync(join(MODELS, name))) {
        if (file !== 'onnx') symlinkSync(join(MODELS, name, file), join(models, name, file));
      }
      for (const file of ['model.onnx', 'model-int8.onnx']) {
        symlinkSync(join(MODELS, name, 'onnx', file), join(models, name, 'onnx', file));
      }
      damage(join(models, name));
      return await runCommandSync({ MODELS_DIR: models, WORKER_RESTARTS_MAX: '0' });
    } finally {
      rmSync(models, { recursive: true, force: true });
    }
  }

  const WAY = './run.sh sets it up, or bun src/provision/setup.ts --model multilingual-e5-small';

  test.each<[string, RegExp, (folder: string) => void]>([
    [
      'no model file',
      /\.onnx is missing\. /,
      (folder) => rmSync(join(folder, 'onnx'), { recursive: true }),
    ],
    [
      'half a model file',
      /\.onnx has 1000 bytes, not \d+: it is incomplete or another file\. Delete it: /,
      (folder) => {
        for (const file of ['onnx/model.onnx', 'onnx/model-int8.onnx']) {
          rmSync(join(folder, file));
          writeFileSync(join(folder, file), 'a'.repeat(1000));
        }
      },
    ],
    [
      'no tokenizer',
      /tokenizer\.json is missing\. /,
      (folder) => {
        for (const file of ['json', 'compiled']) rmSync(join(folder, `tokenizer.${file}`));
      },
    ],
    [
      'half a tokenizer',
      /tokenizer\.json cannot be used: tokenizer\.json: not JSON\. .* Delete it: /,
      (folder) => {
        rmSync(join(folder, 'tokenizer.json'));
        writeFileSync(join(folder, 'tokenizer.json'), '{"version":');
      },
    ],
  ])('%s: exit status 4, the file by name, and what to do', async (_what, words, damage) => {
    const { status, stderr } = await startOn(damage);
    expect(status).toBe(4);
    const last = stderr.trim().split('\n').at(-1);
    expect(last).toMatch(words);
    expect(last).toContain(WAY);
  });
});
