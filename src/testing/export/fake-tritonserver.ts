/**
 * A fake `tritonserver` of a container that the export runs in: takes the options that the export
 * has, and no other, and serves its repository by a real Triton with ONNX Runtime in the engine's
 * place. Each call is added to `calls.jsonl` in the folder that `FAKE_STATE` names.
 */
import { appendFileSync, mkdtempSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePorts } from '../triton/free-ports.ts';
import { startTriton } from '../triton/start-triton.ts';
import { writeFakeEngine } from '../triton/write-fake-engine.ts';

const state = process.env.FAKE_STATE ?? '';
const line = process.argv.slice(2);
const call = ['tritonserver', `device=${process.env.CUDA_VISIBLE_DEVICES}`, ...line];
appendFileSync(join(state, 'calls.jsonl'), `${JSON.stringify(call)}\n`);
if (process.env.FAKE_TRITON_LOG) {
  process.stderr.write(process.env.FAKE_TRITON_LOG);
  process.exit(1);
}
const options = new Map(line.map((word) => word.replace(/^--/, '').split('=') as [string, string]));
const take = (name: string): string => {
  const value = options.get(name) ?? '';
  options.delete(name);
  return value;
};
const [repository, model, port] = [
  take('model-repository'),
  take('load-model'),
  Number(take('http-port')),
];
const expected = {
  'allow-grpc': 'false',
  'allow-metrics': 'false',
  'disable-auto-complete-config': undefined,
  'model-control-mode': 'explicit',
  'http-address': '127.0.0.1',
  'exit-timeout-secs': '1',
};
if (JSON.stringify(Object.entries(expected)) !== JSON.stringify([...options])) {
  process.stderr.write(`error: these are not the options of a gate: ${line.join(' ')}\n`);
  process.exit(1);
}
const dir = mkdtempSync(join(state, 'triton-'));
const fake = writeFakeEngine({
  dir,
  configText: readFileSync(join(repository, model, 'config.pbtxt'), 'utf8'),
  kind: 'onnx',
  plan: readFileSync(join(repository, model, '1', 'model.plan'), 'utf8'),
});
const [grpc = 0, metrics = 0] = freePorts(2);
const triton = await startTriton({ ...fake, ports: { http: port, grpc, metrics } });
process.once('SIGTERM', async () => {
  // Politely it would wait for the gate's connection.
  triton.signal('SIGKILL');
  await triton.stop();
  process.exit(0);
});
