import { formatProfiles, type ProfileShape } from '../../../model/engine-profiles.ts';
import {
  describeFit,
  type EngineModel,
  type FittingPlan,
  fitProfiles,
  gigabytes,
  profileLadder,
  reckonMemory,
} from './fit-profiles.ts';

/** Bytes on the disk: downloads, both graphs, the engine, and Triton's image. */
const DISK = { downloads: 2.3e9, graphs: 3.5e9, engine: 1.2e9, image: 16e9 };
/**
 * An estimate: each profile is timed by itself, and the cache spares the second build most of it.
 */
const PROFILE_MINUTES = [3, 8] as const;

/** What `--plan` prints: profiles, tokens, memory, disk and time of an export, without building. */
export function describePlan(options: {
  readonly model: EngineModel;
  readonly wanted: readonly ProfileShape[];
  /** Undefined when no GPU tells. */
  readonly freeBytes: number | undefined;
}): string {
  const { model, wanted, freeBytes } = options;
  const fits = [true, false].map((isFused) => ({
    isFused,
    fit:
      freeBytes === undefined
        ? { profiles: wanted, memory: reckonMemory({ model, profiles: wanted, isFused }) }
        : fitProfiles({ model, rungs: profileLadder(wanted), isFused, freeBytes }),
  }));
  const { downloads, graphs, engine, image } = DISK;
  const [fast, slow] = PROFILE_MINUTES.map((minutes) => minutes * wanted.length);
  return [
    `asked for: ${formatProfiles(wanted)} (texts x tokens)`,
    freeBytes === undefined
      ? 'no GPU here: what it would take, if it all fits (--gpu-memory 24GB plans for one)'
      : `free on the GPU: ${gigabytes(freeBytes)}`,
    ...fits.flatMap(({ isFused, fit }) => ['', ...linesOf(fit, { isFused, model, wanted })]),
    '',
    `disk: ${gigabytes(downloads)} of downloads, ${gigabytes(graphs)} of graphs, ` +
      `${gigabytes(engine)} for the engine; Triton's image ${gigabytes(image)}`,
    `time: ${fast} to ${slow} minutes to build, estimated; then a minute or two for the gate`,
  ].join('\n');
}

function linesOf(
  fit: FittingPlan | undefined,
  options: { isFused: boolean; model: EngineModel; wanted: readonly ProfileShape[] },
): readonly string[] {
  const title = options.isFused ? 'if attention is fused' : 'if it is not';
  if (fit === undefined) {
    const profiles = profileLadder(options.wanted).at(-1) ?? [];
    const memory = reckonMemory({ ...options, profiles });
    return [`${title}: nothing fits; the smallest plan is ${describeFit({ profiles, memory })}`];
  }
  const { profiles, memory } = fit;
  const rows = profiles.map(({ textCount, tokenCount }, index) =>
    [
      String(index),
      `${textCount} x ${tokenCount}`,
      String(textCount * tokenCount),
      gigabytes(memory.contextBytes[index] ?? 0),
    ].map((cell, column) => cell.padEnd([9, 13, 15, 0][column] ?? 0)),
  );
  return [
    `${title}: ${describeFit(fit)}`,
    '  profile  texts x tokens  tokens         context',
    ...rows.map(([index, shape, tokens, bytes]) => `  ${index}${shape}   ${tokens}${bytes}`),
    `  weights ${gigabytes(memory.weightBytes)}, inputs and outputs ${gigabytes(memory.bufferBytes)}`,
  ];
}

/** Rows of the README's table: what fits GPUs of some sizes, with and without fused attention. */
export function planTable(options: {
  readonly model: EngineModel;
  readonly wanted: readonly ProfileShape[];
  readonly gigabytes: readonly number[];
}): readonly (readonly string[])[] {
  const { model, wanted } = options;
  const rungs = profileLadder(wanted);
  return options.gigabytes.map((size) => {
    const cells = [true, false].flatMap((isFused) => {
      const fit = fitProfiles({ model, rungs, isFused, freeBytes: size * 1e9 });
      if (fit === undefined) return ['none', '-', '-'];
      const { profiles, memory } = fit;
      const bytes = [memory.servingBytes, memory.buildingBytes];
      return [formatProfiles(profiles).replaceAll(',', ', '), ...bytes.map(gigabytes)];
    });
    return [`${size} GB`, ...cells];
  });
}
