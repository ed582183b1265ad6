import { freePorts } from '../triton/free-ports.ts';
import { until } from '../until.ts';
import { readersPython } from './readers-venv.ts';

/** A live S3 server on the loopback, in memory. Whoever started it stops it. */
export interface RunningS3 {
  /** What the AWS tools read, with its address and keys. */
  readonly environment: Record<string, string>;
  stop(): Promise<void>;
}

/** Starts one with an empty bucket. */
export async function startS3(bucket: string): Promise<RunningS3> {
  const [port = 0] = freePorts(1);
  const script = 'import sys; from moto.server import main; main(sys.argv[1:])';
  const server = Bun.spawn([readersPython(), '-c', script, '-H', '127.0.0.1', '-p', String(port)], {
    stdio: ['ignore', 'ignore', 'ignore'],
  });
  const url = `http://127.0.0.1:${port}`;
  await until('the S3 server makes a bucket', async () => {
    if (server.exitCode !== null) throw new Error(`it ended with ${server.exitCode}`);
    return fetch(`${url}/${bucket}`, { method: 'PUT' }).then(
      ({ ok }) => ok,
      () => false,
    );
  });
  return {
    environment: {
      AWS_ENDPOINT_URL: url,
      AWS_ACCESS_KEY_ID: 'tester',
      AWS_SECRET_ACCESS_KEY: 'secret',
    },
    async stop() {
      server.kill('SIGKILL');
      await server.exited;
    },
  };
}
