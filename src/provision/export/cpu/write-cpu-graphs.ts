import { rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { hasInt8DotProduct } from '../../../backend/local/model-file.ts';
import { cosineOf } from '../../../model/fidelity.ts';
import { writeFileAtomic } from '../../../model/files.ts';
import {
  FLOAT32_FILE,
  INT8_FILE,
  INT8_RECORD_FORMAT,
  type Int8Fidelity,
  type Int8Record,
  int8RecordPath,
} from '../../../model/int8-record.ts';
import type { ModelManifest } from '../../../model/manifest.ts';
import type { OnnxModel } from '../../onnx/model.ts';
import { readModel } from '../../onnx/read-model.ts';
import { writeGraphOver, writeModel } from '../../onnx/write-model.ts';
import { demand } from '../../provision-error.ts';
import { askRows } from './ask-rows.ts';
import { fuseForCpu } from './fuse-for-cpu.ts';
import { COSINE_MIN, int8GateTexts, judgeInt8 } from './judge-int8.ts';
import { loadPartFile } from './model-part.ts';
import { quantizeForCpu } from './quantize-for-cpu.ts';
import { unfoldNorms } from './unfold-norms.ts';
import { type HeadAnswers, walkLayers } from './walk-layers.ts';

/**
 * Writes the graphs that a CPU serves, from the float32 graph of an export: `model-float32.onnx`
 * over the same weights, and `model-int8.onnx` where it proves itself. The record beside it says
 * how it did, or why there is none and float32 serves.
 *
 * @param options.exactPath of the float32 graph, in the model's folder.
 */
export async function writeCpuGraphs(options: {
  readonly manifest: Pick<ModelManifest, 'id' | 'outputs' | 'tokenCountMax'>;
  readonly exactPath: string;
  readonly folder: string;
  readonly say: (line: string) => void;
}): Promise<void> {
  const { manifest, exactPath, folder, say } = options;
  // What an earlier export left is of other weights.
  const [int8Path, float32Path] = [join(folder, INT8_FILE), join(folder, FLOAT32_FILE)];
  await removeAll(folder, int8Path, float32Path);
  const writeRecord = (found: Omit<Int8Record, 'format' | 'model'>) => {
    const record: Int8Record = { format: INT8_RECORD_FORMAT, model: manifest.id, ...found };
    const text = `${JSON.stringify(record, null, 2)}\n`;
    return writeFileAtomic(int8RecordPath(folder), new TextEncoder().encode(text));
  };
  const fused = fuseForCpu(readModel(exactPath));
  if (fused === undefined) {
    say(`no graphs for a CPU, the exported one serves: ${UNKNOWN_ATTENTION.reasons}`);
    await writeRecord({ exponents: [], gate: UNKNOWN_ATTENTION });
    return;
  }
  const dataPath = `${exactPath}_data`;
  writeGraphOver(fused, float32Path, dataPath);
  say(`wrote ${float32Path}; quantizing a layer at a time, and judging it by texts`);
  const unfolded = askRows(unfoldNorms(fused));
  const { exponents, divisors, gate, proof } = await judgeLayers(unfolded, {
    ...options,
    dataPath,
    onLayer: (done, of) => done % LAYERS_PER_LINE === 0 && say(`layer ${done + 1} of ${of}`),
  });
  if (!gate.passed) {
    say(`no int8 graph, float32 serves on a CPU: ${gate.reasons.join('; ')}`);
    await writeRecord({ exponents, gate });
    return;
  }
  const graph = writeModel(quantizeForCpu(unfolded, divisors), int8Path);
  await proveFile(int8Path, { ...proof, manifest });
  const bytes = (await stat(int8Path)).size + (await stat(`${int8Path}_data`)).size;
  await writeRecord({ graph: { ...graph, bytes }, exponents, gate });
  const [least, mean] = [gate.dense.cosineMin, gate.dense.cosineMean].map((one) => one.toFixed(4));
  say(`wrote ${int8Path}: cosine to float32 ${least} at least, ${mean} on average`);
}

/** How each layer is quantized, the verdict on that, and a text by which the file is proved. */
async function judgeLayers(
  unfolded: OnnxModel,
  options: {
    readonly manifest: Pick<ModelManifest, 'outputs' | 'tokenCountMax'>;
    readonly exactPath: string;
    readonly dataPath: string;
    readonly onLayer: (done: number, of: number) => void;
  },
) {
  const { manifest, exactPath } = options;
  const texts = int8GateTexts(manifest.tokenCountMax);
  const walk = await walkLayers({
    ...options,
    fused: unfolded,
    texts,
    folder: dirname(exactPath),
  });
  const { divisors, exponents, answers } = walk;
  const verdict = judgeInt8(texts, answers, manifest.outputs);
  const isSaturated = !verdict.passed && !hasInt8DotProduct();
  const reasons = isSaturated ? [...verdict.reasons, SATURATED] : verdict.reasons;
  const gate = { ...verdict, reasons };
  // Of hundreds of megabytes of answers this one is kept.
  const proof = { ids: texts[0], expected: answers[0].float32 };
  return { divisors, exponents, gate, proof };
}

/** The verdict on a graph that could not be looked at. */
const UNKNOWN_ATTENTION: Int8Fidelity = {
  passed: false,
  reasons: ['its attention is written in a way that is not known here'],
  textCount: 0,
  tokensMax: 0,
  dense: { cosineMin: 0, cosineMean: 0 },
};

/**
 * Without the instruction two products of bytes are added in 16 bits, which do not hold all sums:
 * the same graph would be judged otherwise elsewhere.
 */
const SATURATED =
  'this processor has no instruction that multiplies and adds bytes, so sums saturate: ' +
  'for int8 export on a processor with VNNI, or dot product on ARM';

/** A line now and then: the whole takes minutes. */
const LAYERS_PER_LINE = 6;

async function removeAll(folder: string, int8Path: string, float32Path: string): Promise<void> {
  const paths = [int8RecordPath(folder), int8Path, `${int8Path}_data`, float32Path];
  for (const path of paths) await rm(path, { force: true });
}

/** Weights stay where they are mapped: one short text is not worth a packed copy of them all. */
const UNPACKED = { session: { disable_prepacking: '1' } };

/** What was judged was the layers one by one; the whole file must do as well. */
async function proveFile(
  path: string,
  options: {
    readonly ids: readonly number[];
    readonly expected: HeadAnswers;
    readonly manifest: Pick<ModelManifest, 'outputs'>;
  },
): Promise<void> {
  const { ids, expected, manifest } = options;
  const name = manifest.outputs.dense ?? '';
  Bun.gc(true);
  const loaded = await loadPartFile(path, UNPACKED);
  try {
    const mask = new BigInt64Array(ids.length).fill(1n);
    const feeds = { input_ids: BigInt64Array.from(ids, BigInt), attention_mask: mask };
    const answer = await loaded.run(feeds, [name]);
    const cosine = cosineOf(answer[name].values, expected[name].values);
    demand(
      cosine >= COSINE_MIN,
      `${path} is not what was judged: its row has a cosine of ${cosine.toFixed(6)} to float32.`,
    );
  } finally {
    await loaded.close();
  }
}
