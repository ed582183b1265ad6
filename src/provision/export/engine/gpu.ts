import { demand } from '../../provision-error.ts';
import { runCommand } from '../../run-command.ts';

/** What a driver tells of a GPU. */
export interface Gpu {
  readonly name: string;
  /** As NVIDIA writes it: `580.65.06`. */
  readonly driver: string;
  /** Compute capability; undefined when the driver is too old to tell. */
  readonly capability: number | undefined;
  /** Memory that nobody has taken; undefined when the driver does not tell. */
  readonly freeBytes?: number | undefined;
}

/** `compute_cap` came with driver 495. */
const QUERIES = [
  'name,driver_version,compute_cap,memory.free',
  'name,driver_version,compute_cap',
  'name,driver_version',
];

/**
 * What an image of Triton needs, from this tag (year and month) on. From NVIDIA's release notes:
 * TensorRT left Volta with 10.5, and CUDA 13 came with 25.08.
 */
const CAPABILITY_FROM = { tag: '24.10', least: 7.5 };
const DRIVER_FROM = { tag: '25.08', least: 580, cuda: 13 };
/** The last one before that, for older drivers. */
const OLDER_IMAGE = 'nvcr.io/nvidia/tritonserver:25.06-py3';

/**
 * A GPU of this machine; undefined when there is none.
 *
 * @param device its index or UUID, the one that its containers get.
 */
export async function findGpu(device: string): Promise<Gpu | undefined> {
  for (const query of QUERIES) {
    const flags = ['-i', device, `--query-gpu=${query}`, '--format=csv,noheader'];
    const answer = await runCommand(['nvidia-smi', ...flags]).catch(() => undefined);
    const [name, driver, capability, free] = answer?.output.split('\n')[0]?.split(', ') ?? [];
    if (answer?.exitCode !== 0 || !name || !driver) continue;
    // `22563 MiB`; `[N/A]` where memory is shared with the processor.
    const freeBytes = free?.endsWith(' MiB') ? Number.parseInt(free, 10) * 2 ** 20 : undefined;
    return { name, driver, capability: capability ? Number(capability) : undefined, freeBytes };
  }
  return undefined;
}

/**
 * Holds a GPU against what the image needs, before anything is downloaded for it. Of an image with
 * a tag that is not NVIDIA's nothing is known.
 *
 * @returns a warning, when it may not do.
 * @throws ProvisionError when it cannot do.
 */
export function checkGpu(gpu: Gpu, image: string): string | undefined {
  const tag = /:(\d\d\.\d\d)(?:-|$)/.exec(image)?.[1] ?? '';
  const { name, driver, capability } = gpu;
  demand(
    tag < CAPABILITY_FROM.tag || capability === undefined || capability >= CAPABILITY_FROM.least,
    `${name} has compute capability ${capability}; TensorRT in ${image} needs ` +
      `${CAPABILITY_FROM.least} or later. ./run.sh --backend embedded serves without it.`,
  );
  if (tag < DRIVER_FROM.tag || Number.parseInt(driver, 10) >= DRIVER_FROM.least) return undefined;
  return (
    `driver ${driver} is older than ${DRIVER_FROM.least}, which CUDA ${DRIVER_FROM.cuda} of ` +
    `${image} needs. On a data-center GPU it may do; elsewhere update it, or set TRITON_IMAGE to ` +
    `an image with CUDA 12, as ${OLDER_IMAGE}.`
  );
}
