import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { formatProfiles, type ProfileShape } from '../../../model/engine-profiles.ts';
import { writeFileAtomic } from '../../../model/files.ts';
import { demand } from '../../provision-error.ts';

/**
 * Where the configuration of the engine that stands lies, below the model's folder. Compose starts
 * Triton with `--model-config-name=engine`, which reads this, and config.pbtxt where it is missing.
 */
export const ENGINE_CONFIG_PATH = 'configs/engine.pbtxt';

/** Puts the configuration of an engine where Triton looks for it. */
export async function writeEngineConfig(modelFolder: string, config: string): Promise<void> {
  const path = join(modelFolder, ENGINE_CONFIG_PATH);
  await mkdir(dirname(path), { recursive: true });
  await writeFileAtomic(path, new TextEncoder().encode(config));
}

/**
 * The configuration of an engine with these profiles. The shipped config.pbtxt is the one of the
 * default profiles; what differs is the largest batch and the two lists of profiles.
 *
 * @param template the text of config.pbtxt.
 * @throws ProvisionError when the template lacks one of the three.
 */
export function engineConfig(template: string, shapes: readonly ProfileShape[]): string {
  const batchMax = Math.max(...shapes.map(({ textCount }) => textCount));
  const indices = shapes.map((_, index) => `"${index}"`).join(', ');
  const replacements: readonly (readonly [RegExp, string])[] = [
    [/^(max_batch_size:\s*)\d+/m, `$1${batchMax}`],
    [/(\bprofile:\s*)\[[^\]]*\]/, `$1[ ${indices} ]`],
    [
      /(key:\s*"profiles"\s*value:?\s*\{\s*string_value:\s*)"[^"]*"/,
      `$1"${formatProfiles(shapes)}"`,
    ],
  ];
  return replacements.reduce((text, [place, value]) => {
    demand(place.test(text), `config.pbtxt has no ${place}: it is not the shipped one.`);
    return text.replace(place, value);
  }, template);
}
