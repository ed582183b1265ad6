import type { CompiledTokenizer } from '../tokenizer/xlmr/compiled-tokenizer.ts';
import { createTokenIds } from '../tokenizer/xlmr/unigram-search.ts';
import type { ReferenceOptions, ReferenceTokenizer } from './reference-tokenizer.ts';

/** More than any test text has. */
const UNLIMITED = 1 << 30;

/**
 * Compares the compiled tokenizer with the reference on some texts: ids and counts of `encode`, and
 * ids, offsets and special flags of `encodeWithOffsets`.
 *
 * @returns a line for each text that differs.
 */
export async function compareTokenizers(
  tokenizer: CompiledTokenizer,
  reference: ReferenceTokenizer,
  texts: readonly string[],
  options: ReferenceOptions = { specialTokens: true },
): Promise<string[]> {
  const expected = await reference.encode(texts, options);
  const out = createTokenIds();
  const encodeOptions = {
    specialTokens: options.specialTokens,
    tokenCountMax: options.truncation?.tokenCountMax ?? UNLIMITED,
    truncationSide: options.truncation?.side ?? 'right',
  };
  const differences: string[] = [];
  for (const [index, text] of texts.entries()) {
    const want = expected[index];
    out.length = 0;
    const counts = tokenizer.encode(text, { ...encodeOptions, out });
    const aligned = tokenizer.encodeWithOffsets(text, encodeOptions);
    const problems = [
      ...differs('ids', out.ids.subarray(0, out.length), want?.ids),
      ...differs('kept count', [counts.keptCount], [want?.ids.length ?? -1]),
      ...differs('aligned ids', aligned.tokenIds, want?.ids),
      ...differs('starts', aligned.starts, want?.starts),
      ...differs('stops', aligned.stops, want?.stops),
      ...differs('special', aligned.special, want?.special),
      ...differs(
        'counts',
        [aligned.keptCount, aligned.fullCount],
        [counts.keptCount, counts.fullCount],
      ),
    ];
    if (problems.length > 0) differences.push(`${describe(text)}: ${problems.join('; ')}`);
  }
  return differences;
}

function differs(name: string, got: ArrayLike<number>, want: ArrayLike<number> = []): string[] {
  const length = Math.max(got.length, want.length);
  for (let index = 0; index < length; index++) {
    if (got[index] === want[index]) continue;
    const from = Math.max(0, index - 2);
    const part = (list: ArrayLike<number>): string =>
      Array.from(list)
        .slice(from, index + 6)
        .join(' ');
    return [`${name} from ${from}: ${part(got)}, reference ${part(want)}`];
  }
  return [];
}

/** The text and, because so many characters are invisible, its code points. */
function describe(text: string): string {
  const points = Array.from(text.slice(0, 60), (c) => (c.codePointAt(0) ?? 0).toString(16));
  return `${JSON.stringify(text.slice(0, 60))} [${points.join(' ')}]`;
}
