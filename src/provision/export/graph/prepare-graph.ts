import type { OnnxModel } from '../../onnx/model.ts';
import { appendHeads, type HeadLayers, type HeadNames } from './append-heads.ts';
import { fuseLayerNorms } from './fuse-layer-norm.ts';
import { hoistConstants, prune } from './graph-edit.ts';
import { toHalfPrecision } from './half-precision.ts';
import { scaleQueries } from './scale-queries.ts';
import { upgradeOpset } from './upgrade-opset.ts';

/**
 * The two graphs that an export writes. Both answer the same outputs; weights are still where the
 * source has them.
 */
export interface PreparedGraphs {
  /**
   * Everything in float32: what the engine is held against, and what the embedded backend can
   * serve.
   */
  readonly exact: OnnxModel;
  /** Strongly typed, in float16 where that is safe: what the engine is built from. */
  readonly half: OnnxModel;
}

/**
 * From a published graph to the graphs that are served: one set of operators, layer norms in one
 * piece, the outputs that the server asks for, and the precision written in.
 *
 * @throws ProvisionError when the graph is not that of a text encoder, or a head does not fit it.
 */
export function prepareGraphs(
  source: OnnxModel,
  layers: HeadLayers,
  names: HeadNames,
): PreparedGraphs {
  const plain = prune(fuseLayerNorms(upgradeOpset(hoistConstants(source))));
  const exact = appendHeads(plain, layers, names);
  return { exact, half: toHalfPrecision(scaleQueries(exact)) };
}
