import { TokenizerInvalidError, TokenizerUnsupportedError } from '../tokenizer-error.ts';
import { CLUSTER_BYTES_MAX } from '../xlmr/character-lookup.ts';

/** The part of a charsmap that can ever apply. */
export interface Charsmap {
  /** Replacement of a code point. */
  readonly singles: ReadonlyMap<number, string>;
  /**
   * Replacement of two code points that start a grapheme cluster, the first of which has none of
   * its own.
   */
  readonly pairs: ReadonlyMap<string, string>;
}

/**
 * XLM-R's charsmap has some 11,000 nodes within reach. A damaged one may loop, and would otherwise
 * be walked for ever.
 */
const NODE_COUNT_MAX = 100_000;

/**
 * Reads SentencePiece's precompiled charsmap: a Darts double array over UTF-8, whose values point
 * into a string of replacements, each closed by a zero byte.
 *
 * The reference looks a cluster up and takes the *shortest* key that begins it, and drops the rest
 * of the cluster. So a key that begins with another key is never reached, nor is one of several
 * characters with more than five bytes.
 *
 * @param bytes borrowed.
 * @throws TokenizerInvalidError, TokenizerUnsupportedError
 */
export function parseCharsmap(bytes: Uint8Array): Charsmap {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const trieBytes = bytes.length >= 4 ? view.getUint32(0, true) : 0;
  if (trieBytes < 4 || trieBytes % 4 !== 0 || 4 + trieBytes > bytes.length) {
    throw new TokenizerInvalidError('precompiled_charsmap: its trie does not fit in it');
  }
  const unitAt = (position: number): number => {
    if (position * 4 >= trieBytes) {
      throw new TokenizerInvalidError('precompiled_charsmap: its trie points outside itself');
    }
    return view.getUint32(4 + position * 4, true);
  };
  const replacementAt = createReplacementReader(bytes.subarray(4 + trieBytes));

  const singles = new Map<number, string>();
  const pairs = new Map<string, string>();
  let nodeCount = 0;
  const visit = (position: number, key: number[]): void => {
    for (let byte = 1; byte < 256; byte++) {
      const child = (position ^ byte) >>> 0;
      if (child * 4 >= trieBytes) continue;
      const unit = unitAt(child);
      if ((unit & 0x800000ff) >>> 0 !== byte) continue;
      if (++nodeCount > NODE_COUNT_MAX) {
        throw new TokenizerInvalidError('precompiled_charsmap: its trie loops');
      }
      const next = (child ^ offsetOf(unit)) >>> 0;
      const longer = [...key, byte];
      if ((unit >>> 8) & 1) addKey(longer, replacementAt(unitAt(next) & 0x7fffffff));
      else if (longer.length < CLUSTER_BYTES_MAX) visit(next, longer);
    }
  };
  const addKey = (key: readonly number[], replacement: string): void => {
    const text = decodeUtf8(Uint8Array.from(key));
    if (text === null) {
      throw new TokenizerUnsupportedError(
        'precompiled_charsmap: a key that ends inside a character',
      );
    }
    const characters = [...text];
    if (characters.length === 1) singles.set(text.codePointAt(0) ?? 0, replacement);
    else if (characters.length === 2) pairs.set(text, replacement);
    else
      throw new TokenizerUnsupportedError('precompiled_charsmap: a short key of three characters');
  };
  visit(offsetOf(unitAt(0)), []);
  return { singles, pairs };
}

function offsetOf(unit: number): number {
  return ((unit >>> 10) << ((unit & 0x200) >>> 6)) >>> 0;
}

function createReplacementReader(blob: Uint8Array): (start: number) => string {
  if (decodeUtf8(blob) === null) {
    throw new TokenizerInvalidError('precompiled_charsmap: its replacements are not UTF-8');
  }
  return (start) => {
    const end = blob.indexOf(0, start);
    const text = decodeUtf8(blob.subarray(start, end === -1 ? blob.length : end));
    if (text === null || start > blob.length) {
      throw new TokenizerInvalidError('precompiled_charsmap: a replacement outside the string');
    }
    return text;
  };
}

function decodeUtf8(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}
