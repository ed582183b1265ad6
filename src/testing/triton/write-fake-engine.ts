import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { StartTritonOptions } from './start-triton.ts';
import { tritonVenv } from './triton-venv.ts';
import { type TritonModelKind, writeModelSource } from './write-repository.ts';

/**
 * Lays out a repository and a backend directory in which the config.pbtxt of a TensorRT engine
 * loads on a machine that has neither a GPU nor TensorRT: deterministic Python rows take the
 * backend's place, and the CPU takes the GPU's in its instance groups. The rest of the text is
 * Triton's to read as it stands.
 *
 * @param options.dir an empty folder; what is written there lives as long as the Triton.
 * @returns arguments for `startTriton`.
 * @throws Error when the text gives the model no name, which its folder must have.
 */
export function writeFakeEngine(options: {
  dir: string;
  configText: string;
  /** Which fake it is; `onnx` reads the path of its graph from `model.plan`. */
  kind?: TritonModelKind;
  /** What `model.plan` holds. */
  plan?: string;
}): StartTritonOptions & { readonly model: string } {
  const { dir, configText, kind = 'deterministic', plan = 'stands for the engine' } = options;
  const model = /^\s*name\s*:\s*"([^"]+)"/m.exec(configText)?.[1];
  if (model === undefined) throw new Error('config.pbtxt gives the model no name');
  const repository = join(dir, 'models');
  const backends = join(dir, 'backends');

  // A backend folder that holds a model.py is run by the python backend, which it expects beside
  // itself.
  writeModelSource(join(backends, 'tensorrt'), kind);
  symlinkSync(join(tritonVenv().backends, 'python'), join(backends, 'python'));

  mkdirSync(join(repository, model, '1'), { recursive: true });
  writeFileSync(join(repository, model, '1/model.plan'), plan);
  writeFileSync(join(repository, model, 'config.pbtxt'), configText);
  // The file that --model-config-name=cpu picks.
  mkdirSync(join(repository, model, 'configs'));
  writeFileSync(join(repository, model, 'configs/cpu.pbtxt'), onCpu(configText));
  return { repository, backends, extraArguments: ['--model-config-name=cpu'], model };
}

function onCpu(configText: string): string {
  return configText
    .replaceAll(/\bkind\s*:\s*KIND_GPU\b/g, 'kind: KIND_CPU')
    .replaceAll(/\bgpus\s*:\s*\[[^\]]*\]\s*,?/g, '');
}
