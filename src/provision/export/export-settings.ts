import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { BATCH_TOKENS_MAX } from '../../model/engine-profiles.ts';
import { demand, ProvisionError } from '../provision-error.ts';

/** What an export does, and with what. */
export interface ExportSettings {
  readonly model: string;
  readonly modelsDir: string;
  /** The hub's address. */
  readonly hub: string;
  /** A local folder with the model's files, instead of the hub. */
  readonly from: string | undefined;
  /** Triton's image: what will serve builds. */
  readonly image: string;
  /** Run the programs of this container, which is one of that image, and not Docker's. */
  readonly here: boolean;
  /** A folder of engines by what they are for, and where a copy of the right one goes. */
  readonly store: { readonly folder: string; readonly into: string } | undefined;
  /** Where downloads gather when several exports share them; undefined is beside the graphs. */
  readonly sharedDownloads?: string;
  /** The GPU that builds, proves and will serve: an index or a UUID of `nvidia-smi`. */
  readonly device: string;
  /** Padded tokens (longest × texts) that the engine shall take in one batch. */
  readonly batchTokensMax: number;
  /** Build in bfloat16, too, and keep the nearer engine. */
  readonly bfloat16: boolean;
  /** Stop after the graphs, GPU or not. */
  readonly graphOnly: boolean;
  /** Only say what would be built, and what it would take. */
  readonly plan: boolean;
  /** Bytes of the GPU to plan for; undefined is the one that is here. */
  readonly gpuMemory: number | undefined;
  /** Only say whether the engine that stands can serve here. */
  readonly check: boolean;
}

/** What `--help` prints. */
export const USAGE = `usage: ./run.sh export [FLAGS]

  --model NAME        a manifest under models/ that comes from a hub (bge-m3)
  --hub URL           the hub's address (HF_ENDPOINT, or https://huggingface.co)
  --from FOLDER       take the model's files from a folder instead
  --image IMAGE       Triton's image, which builds and serves (TRITON_IMAGE, or that of compose.yml)
  --gpu GPU           the GPU that builds and serves, an index or UUID of nvidia-smi (TRITON_GPU, or
                      0); Compose reads TRITON_GPU
  --batch-tokens N    padded tokens (longest × texts) of the engine's largest batches
                      (BATCH_TOKENS_MAX, which the server reads too, or 16384)
  --here              run trtexec and tritonserver of this container, not Docker's: for the inside of
                      Triton's image, as in a pod; --image names it
  --store DIR         an engine for each kind of GPU, image and size of batches, for many to share;
                      what is there is not built again, and one export builds at a time
  --into DIR          with --store: where a copy of this GPU's engine goes
  --bfloat16          build in bfloat16, too, and keep the engine that the gate shows nearer
  --graph-only        stop once the graphs are written; needs neither GPU nor Docker
  --plan              only say what would be built: profiles, tokens, memory, disk and time
  --gpu-memory SIZE   with --plan, for a GPU with so much memory free, as 24GB
  --check             only say whether the engine that stands can serve here: exit status 0 or 1
  --models-dir DIR    where manifests and models lie (models)

The most texts in a batch are max_batch_size of config.pbtxt, the longest text is tokenCountMax of the
manifest.`;

const PUBLIC_HUB = 'https://huggingface.co';

/**
 * Reads the command line and the environment variables that other tools of this kind, Compose and
 * the server share.
 *
 * @throws ProvisionError naming what is wrong.
 */
export function parseExportSettings(
  argv: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): ExportSettings {
  const { values } = readArguments(argv);
  const hub = values.hub ?? environment.HF_ENDPOINT ?? PUBLIC_HUB;
  demand(/^https?:\/\//.test(hub), `--hub must be an http address, not "${hub}".`);
  // Compose takes an empty variable for one that is not set.
  const device = values.gpu ?? (environment.TRITON_GPU || '0');
  demand(/^[\w-]+$/.test(device), `--gpu must be one index or UUID of a GPU, not "${device}".`);
  const tokens = values['batch-tokens'] ?? (environment.BATCH_TOKENS_MAX || BATCH_TOKENS_MAX);
  const batchTokensMax = Number(tokens);
  demand(
    Number.isInteger(batchTokensMax) && batchTokensMax >= 16 && batchTokensMax <= 1_048_576,
    `--batch-tokens must be a whole number from 16 to 1048576, not "${tokens}".`,
  );
  const { store: folder, into } = values;
  demand((folder === undefined) === (into === undefined), '--store and --into go together.');
  const isBuild = !(values.check || values.plan || values['graph-only']);
  demand(isBuild || folder === undefined, '--store takes no --check, --plan or --graph-only.');
  return {
    model: values.model ?? 'bge-m3',
    modelsDir: values['models-dir'] ?? environment.MODELS_DIR ?? 'models',
    hub,
    from: values.from,
    image: values.image ?? (environment.TRITON_IMAGE || imageOfCompose()),
    here: values.here ?? false,
    store: folder !== undefined && into !== undefined ? { folder, into } : undefined,
    device,
    batchTokensMax,
    bfloat16: values.bfloat16 ?? false,
    graphOnly: values['graph-only'] ?? false,
    plan: values.plan ?? false,
    gpuMemory: parseGigabytes(values['gpu-memory']),
    check: values.check ?? false,
  };
}

function parseGigabytes(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const [, number] = /^(\d+(?:\.\d+)?)\s*GB$/i.exec(text) ?? [];
  demand(number !== undefined, `--gpu-memory must be a size as 24GB, not "${text}".`);
  return Number(number) * 1e9;
}

function readArguments(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      options: {
        model: { type: 'string' },
        'models-dir': { type: 'string' },
        hub: { type: 'string' },
        from: { type: 'string' },
        image: { type: 'string' },
        here: { type: 'boolean' },
        store: { type: 'string' },
        into: { type: 'string' },
        gpu: { type: 'string' },
        'batch-tokens': { type: 'string' },
        bfloat16: { type: 'boolean' },
        'graph-only': { type: 'boolean' },
        plan: { type: 'boolean' },
        'gpu-memory': { type: 'string' },
        check: { type: 'boolean' },
      },
    });
  } catch (error) {
    throw new ProvisionError(error instanceof Error ? error.message : String(error));
  }
}

/** The one place that names the image is compose.yml, which serves with it. */
function imageOfCompose(): string {
  const path = join(import.meta.dir, '../../../compose.yml');
  const image = /\$\{TRITON_IMAGE:-([^}]+)\}/.exec(readFileSync(path, 'utf8'))?.[1];
  demand(image !== undefined, `${path} names no Triton image: give --image.`);
  return image;
}
