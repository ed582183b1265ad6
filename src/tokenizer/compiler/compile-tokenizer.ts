import { TokenizerInvalidError, TokenizerUnsupportedError } from '../tokenizer-error.ts';
import { writeCompiledTokenizer } from '../xlmr/compiled-format.ts';
import { packPieceTexts } from '../xlmr/piece-text.ts';
import { LABEL_FREE, PIECE_NONE } from '../xlmr/route.ts';
import { buildCharacterTables } from './character-tables.ts';
import { parseCharsmap } from './charsmap.ts';
import { buildPieceTrie, packDoubleArray } from './piece-trie.ts';
import { parseTokenizerJson, type UnigramTokenizer } from './tokenizer-json.ts';

/** What the reference takes off the worst score for a character that no piece covers. */
const UNKNOWN_PENALTY = 10;

/**
 * Compiles a `tokenizer.json` of the XLM-R family (Unigram over Metaspace words, Precompiled
 * charsmap) to one binary file. What it does not implement it refuses by name: a compiled tokenizer
 * gives the ids of the reference or does not exist.
 *
 * @param source the bytes of `tokenizer.json`; borrowed.
 * @returns the file, for `readCompiledTokenizer`; owned by the caller.
 * @throws TokenizerUnsupportedError, TokenizerInvalidError
 */
export function compileTokenizer(source: Uint8Array): Uint8Array<ArrayBuffer> {
  const tokenizer = parseTokenizerJson(source);
  const codeOf = createAlphabet(tokenizer);
  const contents = checkVocabulary(tokenizer);
  const pieceCodes = tokenizer.pieces.map((piece) => encodePiece(piece, codeOf));
  const trie = buildPieceTrie(pieceCodes);
  const markCode = codeOf.get(tokenizer.mark);
  if (markCode === undefined)
    throw new TokenizerUnsupportedError('model.vocab: no word mark in it');

  const { wideSpaceRoute, ...characterTables } = buildCharacterTables({
    charsmap: parseCharsmap(tokenizer.charsmap),
    codeOf,
    mark: tokenizer.mark,
    collapsesSpaces: tokenizer.collapsesSpaces,
  });
  return writeCompiledTokenizer({
    meta: {
      sourceSha256: new Bun.CryptoHasher('sha256').update(source).digest('hex'),
      sourceBytes: source.length,
      vocabularySize: contents.length,
      unknownId: tokenizer.unknownId,
      unknownScore: tokenizer.scores.reduce((a, b) => Math.min(a, b)) - UNKNOWN_PENALTY,
      pieceLengthMax: pieceCodes.reduce((most, { length }) => Math.max(most, length), 0),
      mark: tokenizer.mark,
      markCode,
      wideSpaceRoute,
      addedTokens: tokenizer.addedTokens,
      template: tokenizer.template,
    },
    ...characterTables,
    trie: packDoubleArray(trie, codeOf.size + 1),
    scores: tokenizer.scores,
    ...packPieceTexts(contents),
  });
}

function encodePiece(piece: string, codeOf: ReadonlyMap<string, number>): Uint16Array {
  const codes = new Uint16Array(piece.length);
  let count = 0;
  for (const character of piece) codes[count++] = codeOf.get(character) ?? 0;
  return count === piece.length ? codes : codes.subarray(0, count);
}

/**
 * Numbers the characters of all pieces from 1, the most frequent first: hot trie slots then lie
 * close together.
 */
function createAlphabet(tokenizer: UnigramTokenizer): Map<string, number> {
  const counts = new Map<string, number>();
  for (const piece of tokenizer.pieces) {
    for (const character of piece) counts.set(character, (counts.get(character) ?? 0) + 1);
  }
  if (counts.size >= LABEL_FREE) {
    throw new TokenizerUnsupportedError(`model.vocab: ${counts.size} different characters`);
  }
  const byCount = [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
  return new Map(byCount.map(([character], index) => [character, index + 1]));
}

/**
 * The strings of all ids, pieces and then added tokens that are none; refuses vocabularies that
 * break an assumption.
 */
function checkVocabulary(tokenizer: UnigramTokenizer): string[] {
  const { pieces, addedTokens, template, unknownId } = tokenizer;
  const contents = [...pieces];
  for (const token of addedTokens) contents[token.id] = token.content;
  if (contents.length >= PIECE_NONE) {
    throw new TokenizerUnsupportedError(`model.vocab: ${contents.length} pieces`);
  }
  const unknown = pieces[unknownId] ?? '';
  for (const [id, piece] of pieces.entries()) {
    // Adjacent unknowns are fused and looked up again: none of them may add up to a piece.
    if (id !== unknownId && unknown !== '' && piece.includes(unknown)) {
      throw new TokenizerUnsupportedError(`model.vocab[${id}]: contains the unknown piece`);
    }
    if (piece === '') throw new TokenizerInvalidError(`model.vocab[${id}]: an empty piece`);
    if (piece.length > PIECE_LENGTH_MAX) {
      throw new TokenizerUnsupportedError(`model.vocab[${id}]: ${piece.length} units long`);
    }
  }
  for (const id of [...template.before, ...template.after]) {
    if (id >= contents.length) throw new TokenizerInvalidError(`post_processor: no token ${id}`);
  }
  return contents;
}

/** The search keeps a piece's length in the 13 bits above its id. */
const PIECE_LENGTH_MAX = 4096;
