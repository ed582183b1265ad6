import { TokenizerUnsupportedError } from '../tokenizer-error.ts';
import type { TokenizerTables } from './compiled-format.ts';

type PieceTexts = Pick<TokenizerTables, 'pieceBlocks' | 'pieceStarts' | 'pieceBytes'>;

/**
 * Pieces in a block. A block has a 32-bit start, and each piece a 16-bit offset in it: half the
 * size of 32 bits a piece.
 */
const BLOCK_SIZE = 64;

/**
 * Packs the texts of all ids: that of `id` starts at `pieceBlocks[id / 64] + pieceStarts[id]` of
 * `pieceBytes` and ends where the next one starts.
 *
 * @throws TokenizerUnsupportedError for pieces of a thousand bytes, many in a row.
 */
export function packPieceTexts(texts: readonly string[]): PieceTexts {
  const unitCount = texts.reduce((sum, text) => sum + text.length, 0);
  // A UTF-16 unit takes three bytes at most.
  const bytes = Buffer.alloc(unitCount * 3);
  const pieceBlocks = new Uint32Array(Math.floor(texts.length / BLOCK_SIZE) + 1);
  const pieceStarts = new Uint16Array(texts.length + 1);
  let start = 0;
  for (let id = 0; id <= texts.length; id++) {
    const block = Math.floor(id / BLOCK_SIZE);
    if (id % BLOCK_SIZE === 0) pieceBlocks[block] = start;
    const within = start - pieceBlocks[block];
    if (within > 0xffff) throw new TokenizerUnsupportedError('model.vocab: very long pieces');
    pieceStarts[id] = within;
    start += bytes.write(texts[id] ?? '', start);
  }
  return { pieceBlocks, pieceStarts, pieceBytes: new Uint8Array(bytes.subarray(0, start)) };
}

/** From ids back to text. */
export interface PieceDecoder {
  /**
   * The text of token ids, as the reference's Metaspace decoder gives it. Ids outside the
   * vocabulary are skipped.
   */
  decode(tokenIds: ArrayLike<number>, options: { readonly skipSpecialTokens: boolean }): string;
  /** The piece with this id, or `null`. */
  pieceOf(id: number): string | null;
  isSpecial(id: number): boolean;
}

/** @param tables borrowed. */
export function createPieceDecoder(tables: TokenizerTables): PieceDecoder {
  const { pieceBlocks, pieceStarts, pieceBytes } = tables;
  const { mark, vocabularySize, addedTokens } = tables.meta;
  const specialIds = new Set(addedTokens.filter((token) => token.special).map(({ id }) => id));
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

  function startOf(id: number): number {
    return pieceBlocks[Math.floor(id / BLOCK_SIZE)] + pieceStarts[id];
  }

  function pieceOf(id: number): string | null {
    if (!Number.isInteger(id) || id < 0 || id >= vocabularySize) return null;
    // A copy, because a decoder refuses views over shared memory.
    return decoder.decode(pieceBytes.slice(startOf(id), startOf(id + 1)));
  }

  return {
    pieceOf,
    isSpecial: (id) => specialIds.has(id),
    decode(tokenIds, { skipSpecialTokens }) {
      const parts: string[] = [];
      for (let index = 0; index < tokenIds.length; index++) {
        const id = tokenIds[index];
        const piece = pieceOf(id);
        if (piece === null || (skipSpecialTokens && specialIds.has(id))) continue;
        // The first piece loses its mark, which stands for the space put before the text.
        parts.push(piece.replaceAll(mark, parts.length === 0 ? '' : ' '));
      }
      return parts.join('');
    },
  };
}
