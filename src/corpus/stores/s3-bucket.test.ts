import { expect, test } from 'bun:test';
import { portableClock } from '../../client/cancellation.ts';
import { openS3Bucket } from './s3-bucket.ts';

/** Opens a bucket on this machine whose every answer is an error of this code. */
function refusing(code: string) {
  const server = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    fetch: () =>
      new Response(`<Error><Code>${code}</Code><Message>No.</Message></Error>`, { status: 403 }),
  });
  const bucket = openS3Bucket({
    bucket: 'laws',
    environment: {
      AWS_ENDPOINT_URL: `http://127.0.0.1:${server.port}`,
      AWS_ACCESS_KEY_ID: 'tester',
      AWS_SECRET_ACCESS_KEY: 'secret',
    },
    clock: portableClock,
    signal: new AbortController().signal,
    code: 'CORPUS_SOURCE_INVALID',
  });
  return { bucket, server };
}

test.each([
  ['ExpiredToken', 'ExpiredToken; set new AWS_ keys, and run it again'],
  ['RequestTimeTooSkewed', 'RequestTimeTooSkewed; the clock of this machine is off'],
  ['PermanentRedirect', 'PermanentRedirect; the bucket is in another region: set AWS_REGION'],
  ['AccessDenied', 'AccessDenied'],
])('a refusal tells its code, and what to do about it: %s', async (code, words) => {
  const { bucket, server } = refusing(code);
  try {
    await expect(Array.fromAsync(bucket.open('a.jsonl', { from: 0 }))).rejects.toThrow(
      `s3://laws/a.jsonl: GET answered 403: ${words}.`,
    );
    await expect(bucket.putIfAbsent('part', 'rows')).rejects.toThrow(`PUT answered 403: ${words}.`);
    await expect(bucket.list('a/')).rejects.toThrow(
      `s3://laws/a/: the listing failed with ${words}`,
    );
  } finally {
    await server.stop(true);
  }
});
