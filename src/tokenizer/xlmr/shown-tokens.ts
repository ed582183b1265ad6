import type { CompiledTokenizer, EncodedText } from './compiled-tokenizer.ts';

/** One token, in the shape of text-embeddings-inference. */
interface ShownToken {
  readonly id: number;
  /** What the token stands for in the text; the piece itself for a token that the template adds. */
  readonly text: string;
  readonly special: boolean;
  /** Characters (code points) of the text: from `start` to before `stop`; null for a template's. */
  readonly start: number | null;
  readonly stop: number | null;
}

/** The tokens of some texts, for people to look at. */
export interface ShownTokens {
  /** Of all texts together. A lower bound when there are too many. */
  readonly tokenCount: number;
  /** An array of tokens for each text, as the bytes of JSON; undefined when there are too many. */
  readonly json: Uint8Array<ArrayBuffer> | undefined;
}

/**
 * Tokenizes whole texts and writes the bytes of the reply here, on the worker, so that the main
 * thread only passes them on. A token takes some 70 bytes and a third of a µs.
 *
 * @param options.tokenCountMax tokens of all texts together. Beyond it nothing is written.
 */
export function showTokens(
  tokenizer: CompiledTokenizer,
  texts: readonly string[],
  options: { readonly tokenCountMax: number; readonly specialTokens: boolean },
): ShownTokens {
  const { specialTokens, tokenCountMax } = options;
  // No text is cut: a cut text has other tokens.
  const whole = { tokenCountMax: 2 ** 30, truncationSide: 'right', specialTokens } as const;
  const rows: string[] = [];
  let tokenCount = 0;
  for (const text of texts) {
    const encoded = tokenizer.encodeWithOffsets(text, whole);
    tokenCount += encoded.tokenIds.length;
    if (tokenCount > tokenCountMax) return { tokenCount, json: undefined };
    rows.push(JSON.stringify(shown(text, encoded, tokenizer)));
  }
  return { tokenCount, json: new TextEncoder().encode(`[${rows.join(',')}]`) };
}

function shown(text: string, encoded: EncodedText, vocabulary: CompiledTokenizer): ShownToken[] {
  const { tokenIds, starts, stops, special } = encoded;
  const indexOf = codePointIndex(text);
  return Array.from(tokenIds, (id, at) => {
    if (special[at] === 1) {
      const piece = vocabulary.pieceOf(id) ?? '';
      return { id, text: piece, special: true, start: null, stop: null };
    }
    const [from, to] = [starts[at], stops[at]];
    const part = text.slice(from, to);
    return { id, text: part, special: false, start: indexOf(from), stop: indexOf(to) };
  });
}

/** Turns an index in UTF-16 units into one in code points. */
function codePointIndex(text: string): (unit: number) => number {
  if (!/[\ud800-\udbff]/.test(text)) return (unit) => unit;
  const indices = new Uint32Array(text.length + 1);
  let count = 0;
  for (let unit = 0; unit < text.length; unit++) {
    indices[unit] = count;
    const isSecondHalf = (text.charCodeAt(unit + 1) & 0xfc00) === 0xdc00;
    if (!isSecondHalf) count++;
  }
  indices[text.length] = count;
  return (unit) => indices[unit];
}
