import { join } from 'node:path';
import { prepareGraphs } from '../../provision/export/graph/prepare-graph.ts';
import { readLinearLayer } from '../../provision/export/torch-file.ts';
import { readModel } from '../../provision/onnx/read-model.ts';
import { writeModel } from '../../provision/onnx/write-model.ts';
import { SMALL_MODEL_FOLDER } from './xlmr-small.ts';

/** What Triton's configuration says of the small model's outputs, beside the batch. */
export const SMALL_MODEL_OUTPUTS = {
  dense_vecs: [32],
  sparse_vecs: [-1],
  colbert_vecs: [-1, 32],
} as const;

/**
 * Exports the small XLM-RoBERTa with all three heads under the names of BGE-M3's manifest, as
 * `./run.sh export` does.
 *
 * @param path where the `.onnx` goes; its weights go beside it. The folder must be there.
 */
export async function writeSmallModel(path: string): Promise<void> {
  const hub = join(SMALL_MODEL_FOLDER, 'hub');
  const layers = {
    sparse: await readLinearLayer(join(hub, 'sparse_linear.pt')),
    multiVector: await readLinearLayer(join(hub, 'colbert_linear.pt')),
  };
  const names = { dense: 'dense_vecs', sparse: 'sparse_vecs', multiVector: 'colbert_vecs' };
  const { exact } = prepareGraphs(readModel(join(hub, 'model.onnx')), layers, names);
  writeModel(exact, path);
}
