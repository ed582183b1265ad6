import type { Graph, GraphValue } from '../../onnx/model.ts';
import { ELEMENT } from '../../onnx/tensor.ts';
import { demand } from '../../provision-error.ts';

/** What public exports of this model family call the last hidden state, in order of preference. */
const HIDDEN_NAMES = ['token_embeddings', 'last_hidden_state', 'hidden_states', 'hidden_state'];
/** What they call one pooled vector a text. */
const DENSE_NAMES = ['sentence_embedding', 'dense_vecs', 'dense', 'dense_embedding', 'embeddings'];
/** What they call the mask. */
const MASK_NAMES = ['attention_mask', 'mask', 'input_mask'];

/** Where in a graph the pieces lie that pooling and heads are built on. */
export interface GraphPlaces {
  /** `[batch, sequence, dimension]`, float32. */
  readonly hidden: GraphValue;
  /** Values in one token state. */
  readonly dimension: number;
  /** `[batch, dimension]`, when the graph pools by itself. */
  readonly dense: GraphValue | undefined;
  readonly mask: GraphValue;
}

/**
 * Finds hidden state, pooled vector and mask by their shapes, and among several by the names that
 * public exports use.
 *
 * @param rename what the tensors found will be called by the time the places are used.
 * @throws ProvisionError listing the outputs when none fits.
 */
export function findPlaces(
  graph: Graph,
  rename: (name: string) => string = (name) => name,
): GraphPlaces {
  const floats = graph.outputs.filter((output) => output.elementType === ELEMENT.float);
  const hidden = choose(
    floats.filter((output) => output.dims?.length === 3 && Number(output.dims[2]) > 1),
    HIDDEN_NAMES,
  );
  demand(
    hidden !== undefined,
    `No output looks like a hidden state [batch, sequence, dimension]: ${listOf(graph.outputs)}.`,
  );
  const dimension = Number(hidden.dims?.[2]);
  const dense = choose(
    floats.filter((output) => output.dims?.length === 2 && DENSE_NAMES.includes(output.name)),
    DENSE_NAMES,
  );
  const mask = graph.inputs.find((input) => MASK_NAMES.includes(input.name));
  demand(mask !== undefined, `No input is an attention mask: ${listOf(graph.inputs)}.`);
  const to = (value: GraphValue): GraphValue => ({ ...value, name: rename(value.name) });
  return { hidden: to(hidden), dimension, dense: dense && to(dense), mask: to(mask) };
}

/** The candidate with the earliest name of the list; a single one whatever it is called. */
function choose(candidates: GraphValue[], names: readonly string[]): GraphValue | undefined {
  for (const name of names) {
    const found = candidates.find((candidate) => candidate.name === name);
    if (found) return found;
  }
  return candidates.length === 1 ? candidates[0] : undefined;
}

function listOf(values: readonly GraphValue[]): string {
  return values.map((value) => `${value.name} [${value.dims ?? '?'}]`).join(', ');
}
