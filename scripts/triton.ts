/**
 * A real Triton on this machine, without a GPU, for development: the server's whole Triton path
 * with rows that are not BGE-M3's but are right in every other way. `bun scripts/triton.ts --help`
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { print } from '../src/base/print.ts';
import { ProvisionError } from '../src/provision/provision-error.ts';
import { startTriton } from '../src/testing/triton/start-triton.ts';
import { writeRepository } from '../src/testing/triton/write-repository.ts';
import { setUpTritonVenv } from './ci/triton-setup.ts';

const HELP = `Starts a real Triton on the CPU, with a fake model, until Ctrl-C.

  --kind KIND          deterministic: rows made from the token ids (default)
                       timed: the same, after the time that a GPU takes
                       trivial: constant-time rows, to measure all but the model
  --datatype TYPE      INT64 (default) or INT32, of ids and mask
  --dimension N        numbers of a row (1024)
  --max-batch N        texts of one batch (64)
  --http-port N        (8000)
  --grpc-port N        (8001)
  --metrics-port N     (8002)
  --verbose            Triton's log, too, when it ends
`;

/** The name that the server asks for unless told otherwise. */
const MODEL_NAME = 'bge_model';

function readArguments() {
  const { values } = parseArgs({
    options: {
      kind: { type: 'string', default: 'deterministic' },
      datatype: { type: 'string', default: 'INT64' },
      dimension: { type: 'string', default: '1024' },
      'max-batch': { type: 'string', default: '64' },
      'http-port': { type: 'string', default: '8000' },
      'grpc-port': { type: 'string', default: '8001' },
      'metrics-port': { type: 'string', default: '8002' },
      verbose: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  return {
    help: values.help,
    verbose: values.verbose,
    kind: oneOf('kind', values.kind, ['deterministic', 'timed', 'trivial']),
    datatype: oneOf('datatype', values.datatype, ['INT64', 'INT32']),
    dimension: positive('dimension', values.dimension),
    maxBatch: positive('max-batch', values['max-batch']),
    ports: {
      http: positive('http-port', values['http-port']),
      grpc: positive('grpc-port', values['grpc-port']),
      metrics: positive('metrics-port', values['metrics-port']),
    },
  };
}

function oneOf<const T extends string>(name: string, value: string, known: readonly T[]): T {
  const found = known.find((one) => one === value);
  if (found === undefined) {
    throw new ProvisionError(`--${name} is ${known.join(' or ')}, not ${JSON.stringify(value)}`);
  }
  return found;
}

function positive(name: string, value: string): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1 || number > 65_535) {
    throw new ProvisionError(
      `--${name} is a whole number from 1 to 65535, not ${JSON.stringify(value)}`,
    );
  }
  return number;
}

/** Resolves at Ctrl-C or SIGTERM. */
function untilSignal(): Promise<undefined> {
  return new Promise((resolve) => {
    for (const name of ['SIGINT', 'SIGTERM'] as const) {
      process.once(name, () => resolve(undefined));
    }
  });
}

async function main(): Promise<void> {
  const { help, verbose, kind, datatype, dimension, maxBatch, ports } = readArguments();
  if (help) {
    await print(`${HELP}\n`);
    return;
  }
  setUpTritonVenv();
  const repository = mkdtempSync(join(tmpdir(), 'triton-models-'));
  try {
    const model = { name: MODEL_NAME, kind, datatype, dimension, maxBatch };
    writeRepository({ dir: repository, models: [model] });
    const stopped = untilSignal();
    const triton = await startTriton({ repository, ports });
    console.log(`triton: ${triton.url} serves ${MODEL_NAME} (${kind}, ${dimension} numbers a row)`);
    console.log(`triton: metrics at http://127.0.0.1:${triton.metricsPort}/metrics`);
    console.log(`triton: TRITON_URL=${triton.url} ./run.sh --backend triton`);
    const ended = await Promise.race([stopped, triton.ended()]);
    console.log('triton: stopping');
    await triton.stop();
    if (verbose) console.log(triton.logs());
    if (ended !== undefined)
      throw new Error(`Triton ended by itself, with ${ended}; see --verbose`);
  } finally {
    rmSync(repository, { recursive: true, force: true });
  }
}

// Keeps the process alive until Triton's last stub is gone; the fixture's own timers do not.
const alive = setInterval(() => {}, 60_000);
try {
  await main();
} catch (error) {
  console.error(`triton: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
} finally {
  clearInterval(alive);
}
