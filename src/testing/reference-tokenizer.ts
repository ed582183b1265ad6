import { Tokenizer } from '@anush008/tokenizers';

/**
 * What the reference says of a text. Offsets are counted in code points there; here they are in
 * UTF-16 units.
 */
export interface ReferenceText {
  readonly ids: readonly number[];
  readonly starts: readonly number[];
  readonly stops: readonly number[];
  readonly special: readonly number[];
}

export interface ReferenceOptions {
  readonly specialTokens: boolean;
  /** Absent: nothing is cut off. */
  readonly truncation?: { readonly tokenCountMax: number; readonly side: 'left' | 'right' };
}

/** The reference: `tokenizers` in Rust, through its N-API binding. Shares no code with ours. */
export interface ReferenceTokenizer {
  encode(texts: readonly string[], options: ReferenceOptions): Promise<ReferenceText[]>;
  decode(ids: readonly number[], options: { readonly skipSpecialTokens: boolean }): Promise<string>;
}

/** @param path of a `tokenizer.json`. */
export function createReferenceTokenizer(path: string): ReferenceTokenizer {
  return wrapReference(Tokenizer.fromFile(path));
}

/** @param json a whole `tokenizer.json`. */
export function createReferenceFromJson(json: string): ReferenceTokenizer {
  return wrapReference(Tokenizer.fromString(json));
}

function wrapReference(tokenizer: Tokenizer): ReferenceTokenizer {
  return {
    async encode(texts, { specialTokens, truncation }) {
      tokenizer.disableTruncation();
      if (truncation !== undefined) {
        tokenizer.setTruncation(truncation.tokenCountMax, { direction: truncation.side });
      }
      const encodings = await tokenizer.encodeBatch([...texts], {
        addSpecialTokens: specialTokens,
      });
      return encodings.map((encoding, index) => {
        const unitOf = unitsByCharacter(texts[index] ?? '');
        const offsets = encoding.getOffsets();
        return {
          ids: encoding.getIds(),
          starts: offsets.map(([start = 0]) => unitOf[start] ?? -1),
          stops: offsets.map(([, stop = 0]) => unitOf[stop] ?? -1),
          special: encoding.getSpecialTokensMask(),
        };
      });
    },
    decode: (ids, { skipSpecialTokens }) => tokenizer.decode([...ids], skipSpecialTokens),
  };
}

/**
 * Where each code point of the text starts, in UTF-16 units, and behind the last one where it ends.
 */
function unitsByCharacter(text: string): number[] {
  const units: number[] = [];
  let unit = 0;
  for (const character of text) {
    units.push(unit);
    unit += character.length;
  }
  units.push(unit);
  return units;
}
