import { TokenizerInvalidError, TokenizerUnsupportedError } from '../tokenizer-error.ts';
import type { AddedToken } from '../xlmr/compiled-format.ts';
import { rereadScores } from './reference-number.ts';

/** What `tokenizer.json` says, checked and reduced to what the compiler implements. */
export interface UnigramTokenizer {
  readonly pieces: readonly string[];
  /** Log-probabilities, one for each piece. */
  readonly scores: Float64Array;
  readonly unknownId: number;
  /** SentencePiece's precompiled charsmap, decoded from base64. */
  readonly charsmap: Uint8Array;
  /** Whether runs of spaces become one. */
  readonly collapsesSpaces: boolean;
  /** The character that stands for a space, one UTF-16 unit. */
  readonly mark: string;
  readonly addedTokens: readonly AddedToken[];
  /** Ids put around every text. */
  readonly template: { readonly before: readonly number[]; readonly after: readonly number[] };
}

/**
 * Reads `tokenizer.json`. Its `truncation` and `padding` are ignored: the server gives its own
 * limit with each text.
 *
 * @param bytes borrowed.
 * @throws TokenizerInvalidError, TokenizerUnsupportedError
 */
export function parseTokenizerJson(bytes: Uint8Array): UnigramTokenizer {
  const text = decodeText(bytes);
  const root = fieldsOf(parseJson(text), 'tokenizer.json');
  refuseOthers(root, 'tokenizer.json', [
    ...['version', 'truncation', 'padding', 'added_tokens', 'normalizer', 'pre_tokenizer'],
    ...['post_processor', 'decoder', 'model'],
  ]);
  const model = parseModel(root.model);
  const mark = parseMetaspace(root.pre_tokenizer, 'pre_tokenizer');
  if (parseMetaspace(root.decoder, 'decoder') !== mark) {
    throw new TokenizerUnsupportedError('decoder: another replacement than pre_tokenizer');
  }
  return {
    ...model,
    scores: rereadScores(text, model.scores),
    ...parseNormalizer(root.normalizer),
    mark,
    addedTokens: parseAddedTokens(root.added_tokens, model.pieces),
    template: parseTemplate(root.post_processor),
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new TokenizerInvalidError('tokenizer.json: not JSON', { cause });
  }
}

function decodeText(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new TokenizerInvalidError('tokenizer.json: not UTF-8', { cause });
  }
}

function parseModel(value: unknown): Pick<UnigramTokenizer, 'pieces' | 'scores' | 'unknownId'> {
  const model = fieldsOf(value, 'model');
  expectType(model, 'model', 'Unigram');
  refuseOthers(model, 'model', ['type', 'unk_id', 'vocab', 'byte_fallback']);
  if (model.byte_fallback === true) throw new TokenizerUnsupportedError('model.byte_fallback');
  const vocab = arrayOf(model.vocab, 'model.vocab');
  const pieces: string[] = [];
  const scores = new Float64Array(vocab.length);
  for (const [id, entry] of vocab.entries()) {
    const [piece, score] = Array.isArray(entry) ? entry : [];
    if (typeof piece !== 'string' || typeof score !== 'number' || !Number.isFinite(score)) {
      throw new TokenizerInvalidError(`model.vocab[${id}]: not a piece and a finite score`);
    }
    if (!piece.isWellFormed()) throw new TokenizerInvalidError(`model.vocab[${id}]: not Unicode`);
    pieces.push(piece);
    scores[id] = score;
  }
  const unknownId = integerOf(model.unk_id, 'model.unk_id');
  if (unknownId >= pieces.length) throw new TokenizerInvalidError('model.unk_id: not in the vocab');
  return { pieces, scores, unknownId };
}

function parseNormalizer(value: unknown): Pick<UnigramTokenizer, 'charsmap' | 'collapsesSpaces'> {
  const normalizer = fieldsOf(value, 'normalizer');
  const isSequence = normalizer.type === 'Sequence';
  if (isSequence) refuseOthers(normalizer, 'normalizer', ['type', 'normalizers']);
  const steps = isSequence
    ? arrayOf(normalizer.normalizers, 'normalizer.normalizers')
    : [normalizer];
  const [first, second, ...rest] = steps.map((step) => fieldsOf(step, 'normalizer'));
  if (first === undefined) throw new TokenizerUnsupportedError('normalizer: empty Sequence');
  expectType(first, 'normalizer', 'Precompiled');
  refuseOthers(first, 'normalizer.Precompiled', ['type', 'precompiled_charsmap']);
  const charsmap = decodeBase64(stringOf(first.precompiled_charsmap, 'precompiled_charsmap'));
  if (second !== undefined) parseSpaceCollapse(second);
  if (rest.length > 0) {
    throw new TokenizerUnsupportedError(`normalizer: ${String(rest[0]?.type)} after Replace`);
  }
  return { charsmap, collapsesSpaces: second !== undefined };
}

/** The one replacement that is implemented: two spaces or more become one. */
function parseSpaceCollapse(step: Fields): void {
  expectType(step, 'normalizer', 'Replace');
  refuseOthers(step, 'normalizer.Replace', ['type', 'pattern', 'content']);
  const pattern = fieldsOf(step.pattern, 'normalizer.Replace.pattern');
  if (pattern.Regex !== ' {2,}' || step.content !== ' ' || Object.keys(pattern).length !== 1) {
    throw new TokenizerUnsupportedError(
      `normalizer: Replace of ${JSON.stringify(pattern)} by ${JSON.stringify(step.content)}`,
    );
  }
}

function parseMetaspace(value: unknown, where: string): string {
  const metaspace = fieldsOf(value, where);
  expectType(metaspace, where, 'Metaspace');
  refuseOthers(metaspace, where, [
    ...['type', 'replacement', 'str_rep', 'add_prefix_space', 'prepend_scheme', 'split'],
  ]);
  const { prepend_scheme: scheme = 'always', add_prefix_space: prefix = true } = metaspace;
  if (scheme !== 'always') {
    throw new TokenizerUnsupportedError(`${where}.prepend_scheme: ${String(scheme)}`);
  }
  if (prefix !== true) throw new TokenizerUnsupportedError(`${where}.add_prefix_space: false`);
  if ((metaspace.split ?? true) !== true) {
    throw new TokenizerUnsupportedError(`${where}.split: false`);
  }
  const mark = stringOf(metaspace.replacement, `${where}.replacement`);
  if (mark.length !== 1 || mark === ' ' || !mark.isWellFormed()) {
    throw new TokenizerUnsupportedError(`${where}.replacement: ${JSON.stringify(mark)}`);
  }
  return mark;
}

function parseAddedTokens(value: unknown, pieces: readonly string[]): AddedToken[] {
  const idOf = new Map(pieces.map((piece, id) => [piece, id]));
  const seen = new Set<string>();
  let nextId = pieces.length;
  return arrayOf(value, 'added_tokens').map((entry, index) => {
    const where = `added_tokens[${index}]`;
    const token = fieldsOf(entry, where);
    refuseOthers(token, where, [
      ...['id', 'content', 'single_word', 'lstrip', 'rstrip', 'normalized', 'special'],
    ]);
    const content = stringOf(token.content, `${where}.content`);
    if (content === '' || !content.isWellFormed() || seen.has(content)) {
      throw new TokenizerInvalidError(`${where}.content: empty, repeated or not Unicode`);
    }
    seen.add(content);
    // Two tokens could then claim the same white space.
    if (content !== content.trim()) {
      throw new TokenizerUnsupportedError(`${where}.content: white space at an end`);
    }
    if (booleanOf(token.normalized, `${where}.normalized`)) {
      throw new TokenizerUnsupportedError(`${where}.normalized: true`);
    }
    if (booleanOf(token.single_word, `${where}.single_word`)) {
      throw new TokenizerUnsupportedError(`${where}.single_word: true`);
    }
    // A token that is no piece takes the next free id in the reference, whatever the file says.
    const id = integerOf(token.id, `${where}.id`);
    const expectedId = idOf.get(content) ?? nextId++;
    if (id !== expectedId) throw new TokenizerInvalidError(`${where}.id: ${id}, not ${expectedId}`);
    return {
      id,
      content,
      stripsLeft: booleanOf(token.lstrip, `${where}.lstrip`),
      stripsRight: booleanOf(token.rstrip, `${where}.rstrip`),
      special: booleanOf(token.special, `${where}.special`),
    };
  });
}

function parseTemplate(value: unknown): UnigramTokenizer['template'] {
  const before: number[] = [];
  const after: number[] = [];
  if (value === null) return { before, after };
  const template = fieldsOf(value, 'post_processor');
  expectType(template, 'post_processor', 'TemplateProcessing');
  refuseOthers(template, 'post_processor', ['type', 'single', 'pair', 'special_tokens']);
  const specials = fieldsOf(template.special_tokens, 'post_processor.special_tokens');
  let sequences = 0;
  for (const entry of arrayOf(template.single, 'post_processor.single')) {
    const item = fieldsOf(entry, 'post_processor.single');
    const [kind = ''] = Object.keys(item);
    const part = fieldsOf(item[kind], `post_processor.single.${kind}`);
    if (part.type_id !== 0) throw new TokenizerUnsupportedError('post_processor: type_id not 0');
    if (kind === 'Sequence' && part.id === 'A') {
      sequences++;
      continue;
    }
    if (kind !== 'SpecialToken') throw new TokenizerUnsupportedError(`post_processor: ${kind}`);
    const name = stringOf(part.id, 'post_processor.single.SpecialToken.id');
    const special = fieldsOf(specials[name], `post_processor.special_tokens.${name}`);
    const ids = arrayOf(special.ids, `post_processor.special_tokens.${name}.ids`);
    const target = sequences === 0 ? before : after;
    target.push(...ids.map((id) => integerOf(id, 'post_processor.special_tokens.ids')));
  }
  if (sequences !== 1) throw new TokenizerUnsupportedError(`post_processor: ${sequences} texts`);
  return { before, after };
}

function decodeBase64(text: string): Uint8Array {
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.length % 4 !== 0 || text === '') {
    throw new TokenizerInvalidError('precompiled_charsmap: not base64');
  }
  return Uint8Array.from(Buffer.from(text, 'base64'));
}

// Below are the checks of single values. Each names the place in the file that is wrong. The format
// leaves a part out by `null`: that is unsupported where the part is needed, and any other wrong
// type is invalid.

/** An object of the file, unchecked. */
type Fields = Record<string, unknown>;

/**
 * @throws TokenizerUnsupportedError for `null`, TokenizerInvalidError for anything else but an
 *   object.
 */
function fieldsOf(value: unknown, where: string): Fields {
  if (value === null) throw new TokenizerUnsupportedError(`${where}: null`);
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw new TokenizerInvalidError(`${where}: not an object`);
  }
  return value as Fields;
}

/** @throws TokenizerInvalidError */
function arrayOf(value: unknown, where: string): unknown[] {
  if (!Array.isArray(value)) throw new TokenizerInvalidError(`${where}: not an array`);
  return value;
}

/** @throws TokenizerInvalidError */
function stringOf(value: unknown, where: string): string {
  if (typeof value !== 'string') throw new TokenizerInvalidError(`${where}: not a string`);
  return value;
}

/** @throws TokenizerInvalidError */
function booleanOf(value: unknown, where: string): boolean {
  if (typeof value !== 'boolean') throw new TokenizerInvalidError(`${where}: not a boolean`);
  return value;
}

/** A whole number from 0 that fits 31 bits. @throws TokenizerInvalidError */
function integerOf(value: unknown, where: string): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > 0x7fffffff) {
    throw new TokenizerInvalidError(`${where}: not a whole number`);
  }
  return value;
}

/** @throws TokenizerInvalidError without a type, TokenizerUnsupportedError for another. */
function expectType(fields: Fields, where: string, type: string): void {
  if (typeof fields.type !== 'string') throw new TokenizerInvalidError(`${where}.type: missing`);
  if (fields.type !== type) throw new TokenizerUnsupportedError(`${where}: ${fields.type}`);
}

/** @throws TokenizerUnsupportedError for a field that is not among the known. */
function refuseOthers(fields: Fields, where: string, known: readonly string[]): void {
  for (const name of Object.keys(fields)) {
    if (!known.includes(name)) throw new TokenizerUnsupportedError(`${where}.${name}`);
  }
}
