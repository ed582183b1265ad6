import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startTriton } from './start-triton.ts';
import { writeFakeEngine } from './write-fake-engine.ts';

/** A tensor as Triton's parser read it. */
export interface TritonConfigTensor {
  readonly name: string;
  readonly data_type: string;
  readonly dims: readonly number[];
}

/** What Triton's parser made of a config.pbtxt: what we look at by type, the rest as it came. */
export interface TritonConfig {
  readonly name: string;
  readonly platform: string;
  readonly max_batch_size: number;
  readonly input: readonly TritonConfigTensor[];
  readonly output: readonly TritonConfigTensor[];
  readonly [field: string]: unknown;
}

/**
 * Holds the config.pbtxt of a TensorRT engine against Triton's own parser and core, without a GPU.
 * On top it refuses what Triton lets pass: no inputs, no outputs, a tensor name twice.
 *
 * @param configText the whole file.
 * @returns the configuration that Triton served; its instance groups are on the CPU.
 * @throws Error with Triton's own words, or ours, for what is wrong.
 */
export async function checkTritonConfig(configText: string): Promise<TritonConfig> {
  const dir = mkdtempSync(join(tmpdir(), 'triton-config-'));
  try {
    const { model, ...start } = writeFakeEngine({ dir, configText });
    const triton = await startTriton(start);
    try {
      const reply = await fetch(`${triton.url}/v2/models/${model}/config`, { keepalive: false });
      const config = (await reply.json()) as TritonConfig;
      checkTensors(config);
      return config;
    } finally {
      await triton.stop();
    }
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function checkTensors(config: TritonConfig): void {
  for (const side of ['input', 'output'] as const) {
    const names = config[side].map((tensor) => tensor.name);
    if (names.length === 0) throw new Error(`config.pbtxt gives ${config.name} no ${side}`);
    const twice = names.find((name, index) => names.indexOf(name) !== index);
    if (twice !== undefined) {
      throw new Error(`config.pbtxt gives ${config.name} the ${side} ${twice} twice`);
    }
  }
}
