import {
  closeSync,
  copyFileSync,
  cpSync,
  globSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  statSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';

const MODELS = join(import.meta.dir, '../../../models');
const NAME = 'multilingual-e5-small';

const PAGE_BYTES = 4096;
/** Pages that go bad: with these, rows are finite, of length one, and mean something else. */
const FIRST_BYTES = 5_000_000;
const STEP_BYTES = 4_000_000;

/** A models folder below `dir` with the embedded default, whose mapped weights are its own. */
export function linkModel(dir: string): string {
  const models = join(dir, 'models');
  mkdirSync(join(models, NAME, 'onnx'), { recursive: true });
  copyFileSync(join(MODELS, `${NAME}.json`), join(models, `${NAME}.json`));
  for (const place of ['', 'onnx']) {
    for (const name of readdirSync(join(MODELS, NAME, place))) {
      const [from, to] = [MODELS, models].map((root) => join(root, NAME, place, name));
      if (statSync(from).isFile()) symlinkSync(from, to);
      else if (place === 'onnx') cpSync(from, to, { recursive: true });
    }
  }
  return models;
}

/** Flips pages of the mapped weights, as a bad disk leaves them: the same length, other bytes. */
export function damageWeights(dir: string): void {
  const paths = globSync(join(dir, 'models', NAME, 'onnx/*/weights.bin'));
  if (paths.length === 0) throw new Error('there are no mapped weights');
  for (const path of paths) {
    const file = openSync(path, 'r+');
    const page = Buffer.alloc(PAGE_BYTES);
    for (let at = FIRST_BYTES; at < statSync(path).size - PAGE_BYTES; at += STEP_BYTES) {
      readSync(file, page, 0, PAGE_BYTES, at);
      page.forEach((byte, index) => {
        page[index] = byte ^ 0x55;
      });
      writeSync(file, page, 0, PAGE_BYTES, at);
    }
    closeSync(file);
  }
}
