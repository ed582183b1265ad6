import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { nkeys } from '@nats-io/transport-node';
import { portableClock } from '../../client/cancellation.ts';
import { NatsQueue } from '../../corpus/queue/nats-queue.ts';
import { type CorpusStand, startCorpusStand } from './corpus-stand.ts';
import { startNats } from './start-nats.ts';

/** Queues that want to know who comes: the client of NATS takes nothing of it from an address. */

setDefaultTimeout(60_000);

let stand: CorpusStand;

beforeAll(() => {
  stand = startCorpusStand();
});

afterAll(() => stand.close());

/** Opens a queue and asks it for its jobs. */
async function ask(url: string, environment: Record<string, string> = {}): Promise<number> {
  const limits = { leaseMs: 1000, triesMax: 1, patienceMs: 1000 };
  const { signal } = new AbortController();
  const queue = await NatsQueue.open({ url, environment, clock: portableClock, signal, ...limits });
  try {
    return (await (await queue.jobs()).list()).length;
  } finally {
    await queue.close();
  }
}

const user = nkeys.createUser();
const PASSWORD = 'p@ss:w%rd';

describe.each([
  [
    'a user with a password',
    `authorization { user: reader, password: "${PASSWORD}" }`,
    (place: string) => [
      [`nats://reader:p%40ss%3Aw%25rd@${place}`, {}],
      // As people write it.
      [`nats://reader:${PASSWORD}@${place}`, {}],
      [`nats://${place}`, { NATS_USER: 'reader', NATS_PASSWORD: PASSWORD }],
    ],
  ],
  [
    'a token',
    'authorization { token: "se:cret" }',
    (place: string) => [
      [`nats://se%3Acret@${place}`, {}],
      [`nats://127.0.0.1:1,nats://${place}`, { NATS_TOKEN: 'se:cret' }],
    ],
  ],
  [
    'an nkey',
    `authorization { users: [{ nkey: ${user.getPublicKey()} }] }`,
    (place: string) => [
      [`nats://${place}`, { NATS_NKEY: new TextDecoder().decode(user.getSeed()) }],
      [`nats://${place}`, { NATS_NKEY: stand.path('user.nk') }],
    ],
  ],
] as readonly (readonly [
  string,
  string,
  (place: string) => readonly (readonly [string, Record<string, string>])[],
])[])('a queue that wants %s', (_, settings, ways) => {
  test('takes it, and refuses others without telling what they gave', async () => {
    await stand.write('user.nk', `${new TextDecoder().decode(user.getSeed())}\n`);
    const nats = await startNats(settings);
    const place = nats.url.replace('nats://', '');
    try {
      for (const [url, environment] of ways(place)) expect(await ask(url, environment)).toBe(0);
      const refused = await ask(`nats://reader:wrong-secret@${place}`).catch((error) => error);
      expect(refused).toMatchObject({ code: 'CORPUS_QUEUE_FAILED' });
      expect(refused.message).toStartWith(`the queue ${nats.url} cannot be used: Authorization`);
      expect(refused.message).toContain('nats://user:password@host');
      expect(refused.message).not.toContain('wrong-secret');
    } finally {
      await nats.stop();
    }
  });
});

test('a file of an access that cannot be read is refused by its setting', async () => {
  const creds = { NATS_CREDS: stand.path('no.creds') };
  await expect(ask('nats://127.0.0.1:1', creds)).rejects.toMatchObject({
    code: 'CORPUS_FLAG_INVALID',
    message: expect.stringContaining(`NATS_CREDS: ${stand.path('no.creds')} cannot be read`),
  });
});
