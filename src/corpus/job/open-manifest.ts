import type { RecordChunker } from '../chunks/chunk-records.ts';
import { CorpusError } from '../corpus-error.ts';
import type { CorpusContext, CorpusOptions } from '../corpus-options.ts';
import type { ServerModel } from '../servers/server-info.ts';
import { partName } from '../sinks/disk-sink.ts';
import type { OutputHead, Sink } from '../sinks/sink.ts';
import type { Source } from '../sources/source.ts';
import {
  anotherJob,
  checkSameJob,
  describeNames,
  type Fingerprint,
  formatManifest,
  type Manifest,
  parseManifest,
} from './manifest.ts';
import { checkPins } from './pins.ts';
import { describeRepeated, planShards } from './plan-shards.ts';

/**
 * The manifest that is there, held against this job; or a new one, for which all inputs are read.
 *
 * @throws CorpusError CORPUS_JOB_DIFFERS, CORPUS_SOURCE_CHANGED, or of the source or the sink.
 */
export async function openManifest(job: {
  options: CorpusOptions;
  context: CorpusContext;
  source: Source;
  sink: Sink;
  model: ServerModel;
  chunker: RecordChunker | undefined;
}): Promise<Manifest> {
  const { options, context, source, sink } = job;
  const { fields, parts } = options;
  const fingerprint = fingerprintOf(job);
  const before = await sink.readManifest();
  if (before === undefined) {
    const [foreign] = await sink.committed();
    if (foreign !== undefined) {
      // Somebody may have been faster since.
      if ((await sink.readManifest()) !== undefined) return openManifest(job);
      throw foreignParts(sink.address, foreign);
    }
    const { inputs } = source;
    context.terminal.write('embed: reading the source once, to cut and pin the parts\n');
    const { signal } = context;
    const { planned, repeated } = await planShards({ inputs, fields, limits: parts, signal });
    if (repeated !== undefined) {
      const words = describeRepeated(repeated);
      // Which of its vectors the row of the table got would be chance.
      if (options.toColumn !== undefined) {
        throw new CorpusError('CORPUS_SOURCE_INVALID', `--to-column: ${words}.`);
      }
      context.terminal.write(`embed: ${words}; each record gets a row of its own\n`);
    }
    const manifest: Manifest = { manifestVersion: 2, fingerprint, ...planned };
    if (await sink.createManifest(formatManifest(manifest))) return manifest;
    // Somebody was faster with the same job, or with another one.
    return openManifest(job);
  }
  const there = parseManifest(before, sink.address);
  const inputNames = source.inputs.map(({ name }) => name);
  checkSameJob({ address: sink.address, there, fingerprint, inputNames });
  const renamed = () => anotherJob(sink.address, describeNames(there, inputNames));
  await checkPins({ inputs: source.inputs, pins: there.inputs, fields, renamed });
  return there;
}

/** They would count as done, and nobody knows what is in them. */
function foreignParts(address: string, part: number): CorpusError {
  const message =
    `${address} has ${partName(part)} already, but no manifest that says what it is. ` +
    'Choose another --to.';
  return new CorpusError('CORPUS_JOB_DIFFERS', message);
}

function fingerprintOf(job: {
  options: CorpusOptions;
  context: CorpusContext;
  model: ServerModel;
  chunker: RecordChunker | undefined;
}): Fingerprint {
  const { options, context, model, chunker } = job;
  const { fields, parts } = options;
  return {
    version: context.version,
    model: model.id,
    dimension: model.dimension,
    ...model.identity,
    heads: options.heads,
    dtype: options.dtype,
    format: options.format,
    'input-type': options.inputType,
    truncate: options.truncate,
    'input-format': options.inputFormat ?? 'by name',
    ...(options.table === undefined ? {} : { table: options.table }),
    text: fields.text,
    id: fields.id ?? 'row number',
    carry: fields.carry,
    'part-texts': parts.partTextsMax,
    'part-characters': parts.partCharactersMax,
    ...chunker?.identity,
  };
}

/** @throws CorpusError CORPUS_FLAG_INVALID when the model lacks one of the heads. */
export function checkHeads(heads: readonly OutputHead[], model: ServerModel): void {
  const lacking = heads.filter((head) => !model.heads.includes(head));
  if (lacking.length === 0) return;
  const message = `--heads ${lacking.join(',')}: ${model.id} has ${model.heads.join(', ')} alone.`;
  throw new CorpusError('CORPUS_FLAG_INVALID', message);
}
