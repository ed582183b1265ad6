import { S3Client } from 'bun';
import { type ClientClock, pause } from '../../client/cancellation.ts';
import { CorpusError, type CorpusErrorCode, wordsOf } from '../corpus-error.ts';

/** An object as a listing tells it. */
export interface S3Object {
  readonly key: string;
  readonly bytes: number;
  readonly etag: string;
}

/** A bucket of any server that speaks S3. */
export interface S3Bucket {
  readonly name: string;
  /** All objects whose keys begin so, in the order of their keys' bytes. */
  list(prefix: string): Promise<readonly S3Object[]>;
  /** @returns undefined where there is none. */
  look(key: string): Promise<S3Object | undefined>;
  /**
   * @param part.to exclusive; undefined reads to the end.
   * @param part.signal ends the reading in place of the job's.
   */
  open(
    key: string,
    part: { from: number; to?: number | undefined; signal?: AbortSignal | undefined },
  ): AsyncIterable<Uint8Array>;
  /** @returns undefined where there is none. */
  read(key: string): Promise<string | undefined>;
  /** Writes unless the key is there. @returns whether it was written. */
  putIfAbsent(key: string, body: string | Blob): Promise<boolean>;
  /** Writes, also over what is there. */
  put(key: string, body: string | Blob): Promise<void>;
}

/** Where the keys of the bucket come from, as the AWS tools read them. */
export type S3Environment = Readonly<Record<string, string | undefined>>;

/** Tries of a request whose failure may pass, and the first wait between them, in ms. */
const TRIES_MAX = 5;
const DELAY_MS = 300;
/** The longest wait, in ms, of those after a bucket that has answered before. */
const DELAY_MS_MAX = 30_000;

/** Statuses after which the same request may succeed; 409: a conditional write met another. */
const RETRYABLE: ReadonlySet<number> = new Set([408, 409, 429, 500, 502, 503, 504]);

/** Codes of a listing that the same request would have again. */
const PERMANENT: ReadonlySet<unknown> = new Set([
  'AccessDenied',
  'AuthorizationHeaderMalformed',
  'ExpiredToken',
  'InvalidAccessKeyId',
  'InvalidBucketName',
  'InvalidToken',
  'NoSuchBucket',
  'NoSuchKey',
  'PermanentRedirect',
  'RequestTimeTooSkewed',
  'SignatureDoesNotMatch',
]);

/** What to do about a code, where it does not say so itself. */
const ADVICE: Readonly<Record<string, string>> = {
  AuthorizationHeaderMalformed: 'the bucket may be in another region: set AWS_REGION',
  ExpiredToken: 'set new AWS_ keys, and run it again',
  PermanentRedirect: 'the bucket is in another region: set AWS_REGION',
  RequestTimeTooSkewed: 'the clock of this machine is off',
  SignatureDoesNotMatch: 'AWS_SECRET_ACCESS_KEY is not that of AWS_ACCESS_KEY_ID',
};

function withAdvice(code: string): string {
  return ADVICE[code] === undefined ? code : `${code}; ${ADVICE[code]}`;
}

/** How long a signed address may be used, in s: longer than any one transfer. */
const SIGNED_S = 3600;

/** Takes `s3://bucket/key` apart. @throws CorpusError CORPUS_FLAG_INVALID. */
export function parseS3Address(address: string): { bucket: string; key: string } {
  const [, bucket, key = ''] = /^s3:\/\/([^/]+)\/?(.*)$/s.exec(address) ?? [];
  if (bucket !== undefined) return { bucket, key };
  const message = `${address} is no address like s3://bucket/prefix.`;
  throw new CorpusError('CORPUS_FLAG_INVALID', message);
}

/**
 * Opens a bucket. Objects are read and written by signed addresses and plain `fetch`: Bun's own
 * writer of `s3://` drops If-None-Match without a word, and would overwrite.
 *
 * @param options.code of the errors that its methods throw.
 * @param options.patienceMs how long a bucket that has answered before is waited for.
 * @param options.say told of such waits.
 */
export function openS3Bucket(options: {
  bucket: string;
  environment: S3Environment;
  clock: ClientClock;
  signal: AbortSignal;
  code: CorpusErrorCode;
  patienceMs: number;
  say: (words: string) => void;
}): S3Bucket {
  const { bucket, environment, clock, code, patienceMs, say } = options;
  // Until then a wrong address is as likely as a bucket that is away.
  let hasAnswered = false;
  const client = new S3Client(credentialsOf(bucket, environment));
  const failed = (what: string, cause: unknown): CorpusError =>
    new CorpusError(code, `s3://${bucket}/${what}: ${wordsOf(cause)}.`, cause);

  async function request(
    method: 'GET' | 'PUT' | 'HEAD',
    key: string,
    init: { headers?: Record<string, string>; body?: string | Blob; signal?: AbortSignal } = {},
  ): Promise<Response> {
    const { signal } = { ...options, ...init };
    return insist(key, signal, async () => {
      const url = client.presign(key, { method, expiresIn: SIGNED_S });
      const reply = await fetch(url, { ...init, method, signal });
      if (RETRYABLE.has(reply.status)) throw new Error(`the server answered ${reply.status}`);
      return reply;
    });
  }
  async function listPage(prefix: string, startAfter: string | undefined) {
    return insist(prefix, options.signal, async () => {
      try {
        return await client.list({ prefix, ...(startAfter ? { startAfter } : {}) });
      } catch (error) {
        const { code } = error as { code?: unknown };
        // Of a server that is not there, its message alone says nothing.
        const words = `the listing failed with ${withAdvice(String(code))}: ${wordsOf(error)}`;
        const named = new Error(words.replace(/\.$/, ''));
        throw PERMANENT.has(code) ? failed(prefix, named) : named;
      }
    });
  }
  /** Tries again whatever fails, but for what is a CorpusError. */
  async function insist<Result>(
    what: string,
    signal: AbortSignal,
    attempt: () => Promise<Result>,
  ): Promise<Result> {
    const startMs = clock.now();
    for (let tries = 1; ; tries++) {
      const delayMs = Math.min(DELAY_MS * 2 ** tries, DELAY_MS_MAX);
      try {
        const result = await attempt();
        hasAnswered = true;
        return result;
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof CorpusError) throw error;
        if (tries >= TRIES_MAX) {
          const isPatient = hasAnswered && clock.now() - startMs < patienceMs;
          if (!isPatient) throw failed(what, error);
          say(`s3://${bucket}: ${wordsOf(error)}; asked again in ${delayMs / 1000} s`);
        }
      }
      await pause({ clock, delayMs, signal });
    }
  }
  async function put(key: string, body: string | Blob, isConditional: boolean): Promise<boolean> {
    const headers: Record<string, string> = isConditional ? { 'if-none-match': '*' } : {};
    const reply = await request('PUT', key, { headers, body });
    if (reply.ok) return true;
    if (isConditional && reply.status === 412) return false;
    throw await refused('PUT', key, reply);
  }

  async function refused(method: string, key: string, reply: Response): Promise<CorpusError> {
    const why = withAdvice(codeOf(await reply.text()));
    return failed(key, new Error(`${method} answered ${reply.status}: ${why}`));
  }

  return {
    name: bucket,
    async list(prefix) {
      const objects: S3Object[] = [];
      let startAfter: string | undefined;
      for (;;) {
        const page = await listPage(prefix, startAfter);
        for (const { key, size = 0, eTag = '' } of page.contents ?? []) {
          objects.push({ key, bytes: size, etag: eTag });
        }
        startAfter = page.contents?.at(-1)?.key;
        if (page.isTruncated !== true || startAfter === undefined) return objects;
      }
    },
    async look(key) {
      const reply = await request('HEAD', key);
      if (reply.status === 404) return undefined;
      if (!reply.ok) throw failed(key, new Error(`HEAD answered ${reply.status}`));
      const bytes = Number(reply.headers.get('content-length') ?? 0);
      return { key, bytes, etag: reply.headers.get('etag') ?? '' };
    },
    async *open(key, { from, to, signal = options.signal }) {
      let at = from;
      for (let tries = 1; ; ) {
        const range = `bytes=${at}-${to === undefined ? '' : to - 1}`;
        const reply = await request('GET', key, { headers: { range }, signal });
        // A range that begins where the object ends has nothing in it.
        if (reply.status === 416) return;
        if (!reply.ok || reply.body === null) throw await refused('GET', key, reply);
        // Else what was read before would come twice.
        if (at > 0 && reply.status !== 206) {
          throw failed(
            key,
            new Error(`GET of ${range} answered ${reply.status}, the whole object`),
          );
        }
        try {
          for await (const piece of reply.body) {
            yield piece;
            at += piece.byteLength;
            tries = 1;
          }
          return;
        } catch (error) {
          signal.throwIfAborted();
          // The connection broke in the middle: on from there.
          if (++tries > TRIES_MAX) throw failed(key, error);
          await pause({ clock, delayMs: DELAY_MS * tries, signal });
        }
      }
    },
    async read(key) {
      const reply = await request('GET', key);
      if (reply.status === 404) return undefined;
      if (reply.ok) return reply.text();
      throw await refused('GET', key, reply);
    },
    putIfAbsent: (key, body) => put(key, body, true),
    async put(key, body) {
      await put(key, body, false);
    },
  };
}

function credentialsOf(bucket: string, environment: S3Environment) {
  const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN } = environment;
  if (!AWS_ACCESS_KEY_ID || !AWS_SECRET_ACCESS_KEY) {
    const message =
      's3:// needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment; those of a ' +
      'profile or a role come there by: eval "$(aws configure export-credentials --format env)"';
    throw new CorpusError('CORPUS_FLAG_INVALID', message);
  }
  const endpoint = environment.AWS_ENDPOINT_URL_S3 || environment.AWS_ENDPOINT_URL;
  return {
    bucket,
    accessKeyId: AWS_ACCESS_KEY_ID,
    secretAccessKey: AWS_SECRET_ACCESS_KEY,
    ...(AWS_SESSION_TOKEN ? { sessionToken: AWS_SESSION_TOKEN } : {}),
    region: environment.AWS_REGION || environment.AWS_DEFAULT_REGION || 'us-east-1',
    ...(endpoint ? { endpoint } : {}),
  };
}

/** The code in an error's XML. */
function codeOf(xml: string): string {
  return /<Code>([^<]*)<\/Code>/.exec(xml)?.[1] ?? 'no reason given';
}
