/**
 * Serves a repository that was made for an engine, with ONNX Runtime in the engine's place, until
 * it is ended. Its address is the one line that it prints. `bun fake-docker-triton.ts REPOSITORY
 * MODEL`
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startTriton } from '../triton/start-triton.ts';
import { writeFakeEngine } from '../triton/write-fake-engine.ts';

const [repository = '', model = ''] = process.argv.slice(2);
const dir = mkdtempSync(join(tmpdir(), 'fake-docker-triton-'));
const options = writeFakeEngine({
  dir,
  configText: readFileSync(join(repository, model, 'config.pbtxt'), 'utf8'),
  kind: 'onnx',
  plan: readFileSync(join(repository, model, '1', 'model.plan'), 'utf8'),
});
const triton = await startTriton(options);
process.once('SIGTERM', async () => {
  await triton.stop();
  rmSync(dir, { recursive: true, force: true });
  process.exit(0);
});
process.stdout.write(`${new URL(triton.url).host}\n`);
