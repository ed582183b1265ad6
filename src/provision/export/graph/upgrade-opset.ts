import {
  type GraphNode,
  intAttribute,
  intsAttribute,
  type OnnxModel,
  opsetOf,
} from '../../onnx/model.ts';
import { intTensor, type Tensor } from '../../onnx/tensor.ts';
import { demand } from '../../provision-error.ts';
import { withGraph } from './graph-edit.ts';

/** The first version with `LayerNormalization`, which engines keep in float32 as one operation. */
export const OPSET = 17;
/** The oldest version read. The published BGE-M3 graph is of this age. */
const OPSET_MIN = 11;

/**
 * Operators whose meaning did not change between versions 11 and 17, as far as graphs of text
 * encoders use them; from the change log of the operator set. Any other is refused rather than
 * guessed at.
 */
const UNCHANGED = new Set(
  `Abs Add And Cast Clip Concat Constant ConstantOfShape CumSum Div Dropout Equal Erf Exp Expand
  Flatten Gather GatherElements GatherND Gemm Greater GreaterOrEqual Identity Less LessOrEqual
  Log MatMul Max Min Mod Mul Neg NonZero Not OneHot Or Pow Range Reciprocal ReduceL2 ReduceMax
  ReduceMean ReduceMin ReduceProd Relu Reshape ScatterND Shape Sigmoid Sign Slice Softplus Sqrt
  Sub Tanh Tile Transpose Trilu Where LayerNormalization`.split(/\s+/),
);
/** Their axes were an attribute, and are an input since version 13. */
const AXES_MOVED = new Set(['Squeeze', 'Unsqueeze', 'ReduceSum']);

/**
 * Rewrites a graph for version 17 of the operators. One that is newer already stays as it is.
 *
 * @throws ProvisionError when the graph is older than version 11, or an operator has no known new
 * form.
 */
export function upgradeOpset(model: OnnxModel): OnnxModel {
  const opset = opsetOf(model);
  if (opset >= OPSET) return model;
  demand(
    opset >= OPSET_MIN,
    `The graph uses operators of version ${opset}; ${OPSET_MIN} is needed.`,
  );
  const constants = new Map(model.graph.constants);
  const nodes = model.graph.nodes.map((node) =>
    node.domain === '' && opset < 13 ? upgradeNode(node, constants) : node,
  );
  const opsets = new Map([...model.opsets].filter(([domain]) => domain !== 'ai.onnx'));
  opsets.set('', OPSET);
  return { ...withGraph(model, { nodes, constants }), opsets, irVersion: 8 };
}

function upgradeNode(node: GraphNode, constants: Map<string, Tensor>): GraphNode {
  if (AXES_MOVED.has(node.op)) return moveToInput({ node, attribute: 'axes', constants });
  if (node.op === 'Split') return moveToInput({ node, attribute: 'split', constants });
  if (node.op === 'Softmax' || node.op === 'LogSoftmax') {
    // Until version 13 all axes from the given one on were joined: the same thing only for the last
    // one.
    demand(
      intAttribute(node, 'axis', 1) === -1 || intAttribute(node, 'axis', 1) === 3,
      `${node.name}: a ${node.op} over several axes is not handled.`,
    );
    return node;
  }
  demand(UNCHANGED.has(node.op), `${node.name}: ${node.op} of an old operator set is not handled.`);
  return node;
}

function moveToInput(options: {
  node: GraphNode;
  attribute: string;
  constants: Map<string, Tensor>;
}): GraphNode {
  const { node, attribute, constants } = options;
  const values = intsAttribute(node, attribute);
  if (!values) return node;
  const name = `${node.outputs[0]}/${attribute}`;
  constants.set(name, intTensor(name, values));
  const attributes = new Map(node.attributes);
  attributes.delete(attribute);
  return { ...node, inputs: [node.inputs[0] ?? '', name], attributes };
}
