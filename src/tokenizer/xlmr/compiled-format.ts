import { CompiledTokenizerError } from '../tokenizer-error.ts';

/**
 * Goes up whenever the layout or the meaning of a section changes; older files are then rebuilt.
 */
export const COMPILED_FORMAT_VERSION = 2;

/** First bytes of every compiled tokenizer. */
const MAGIC = 'UNIGRAM\n';

/**
 * Magic, version, count of sections, checksum, file length. The checksum covers all bytes behind
 * itself.
 */
const HEADER_BYTES = 32;
const CHECKSUM_AT = 16;
const CHECKSUM_FROM = 24;

/** Offset and length in bytes, both uint32. */
const SECTION_ENTRY_BYTES = 8;

/** Sections start at multiples of 8, where every typed array may start. */
const ALIGNMENT = 8;

/** A token that is found in the text as it stands, before anything else happens to it. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** The white space before it belongs to it. */
  readonly stripsLeft: boolean;
  /** The white space after it belongs to it. */
  readonly stripsRight: boolean;
  /** Left out by `decode` when told to skip special tokens. */
  readonly special: boolean;
}

/** The small part of a compiled tokenizer, kept as JSON in the file. */
export interface TokenizerMeta {
  /** SHA-256 of the `tokenizer.json` it was compiled from, in hex, and its length. */
  readonly sourceSha256: string;
  readonly sourceBytes: number;
  /** Pieces and added tokens: ids run from 0 to before this. */
  readonly vocabularySize: number;
  readonly unknownId: number;
  /** What a character without a piece costs, as a log-probability. */
  readonly unknownScore: number;
  /** Characters of the longest piece. */
  readonly pieceLengthMax: number;
  /** The character that stands for a space, and its code in the piece trie. */
  readonly mark: string;
  readonly markCode: number;
  /**
   * The route of all characters that the charsmap replaces by one space, control characters apart:
   * the no-break space, the ideographic one. -1 when spaces are not collapsed.
   */
  readonly wideSpaceRoute: number;
  readonly addedTokens: readonly AddedToken[];
  readonly template: { readonly before: readonly number[]; readonly after: readonly number[] };
}

/**
 * A compiled tokenizer: views over one buffer, borrowed from it. A shared buffer gives every worker
 * the same copy. Nothing writes to it after it is made.
 */
export interface TokenizerTables {
  readonly meta: TokenizerMeta;
  /** `ROUTE` of each UTF-16 unit. */
  readonly unitRoutes: Uint16Array;
  /** For code points from 0x10000: the block of 256 routes of each 256 code points. */
  readonly astralPages: Uint16Array;
  readonly astralRoutes: Uint16Array;
  /**
   * By special entry: bits of `SPECIAL`, its code in the piece trie, its replacement as first × 256
   * + count.
   */
  readonly specialFlags: Uint8Array;
  readonly specialCodes: Uint16Array;
  readonly specialSpans: Uint32Array;
  /** Codes that replace something; `ROUTE.space` and `ROUTE.mark` start a word. */
  readonly replacements: Uint16Array;
  /** Pairs of characters and their replacements, see `route.ts`. */
  readonly pairKeys: Uint32Array;
  readonly pairSpans: Uint32Array;
  /** Grapheme classes of all code points, see `character-lookup.ts`. */
  readonly graphemePages: Uint16Array;
  readonly graphemeBits: Uint16Array;
  /** Double array of pieces, two words a slot, see the compiler's `piece-trie.ts`. */
  readonly trie: Int32Array;
  /** Log-probability of each piece. */
  readonly scores: Float64Array;
  /** UTF-8 of all pieces and added tokens, see `piece-text.ts`. */
  readonly pieceBlocks: Uint32Array;
  readonly pieceStarts: Uint16Array;
  readonly pieceBytes: Uint8Array;
}

/** Order of the sections in the file. */
const SECTIONS = [
  ...(['unitRoutes', 'astralPages', 'astralRoutes', 'specialFlags', 'specialCodes'] as const),
  ...(['specialSpans', 'replacements', 'pairKeys', 'pairSpans', 'graphemePages'] as const),
  ...(['graphemeBits', 'trie', 'scores', 'pieceBlocks', 'pieceStarts', 'pieceBytes'] as const),
];

/** Lays the tables out as one file. Copies them; the bytes belong to the caller. */
export function writeCompiledTokenizer(tables: TokenizerTables): Uint8Array<ArrayBuffer> {
  const meta = new TextEncoder().encode(JSON.stringify(tables.meta));
  const parts = [meta, ...SECTIONS.map((name) => bytesOf(tables[name]))];
  let end = HEADER_BYTES + parts.length * SECTION_ENTRY_BYTES;
  const offsets = parts.map((part) => {
    const offset = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
    end = offset + part.length;
    return offset;
  });

  const file = new Uint8Array(end);
  const view = new DataView(file.buffer);
  file.set(new TextEncoder().encode(MAGIC));
  view.setUint32(8, COMPILED_FORMAT_VERSION, true);
  view.setUint32(12, parts.length, true);
  view.setBigUint64(CHECKSUM_FROM, BigInt(end), true);
  for (const [index, part] of parts.entries()) {
    const entry = HEADER_BYTES + index * SECTION_ENTRY_BYTES;
    view.setUint32(entry, offsets[index] ?? 0, true);
    view.setUint32(entry + 4, part.length, true);
    file.set(part, offsets[index]);
  }
  view.setBigUint64(CHECKSUM_AT, checksumOf(file), true);
  return file;
}

/** How much of a file to check. */
export interface ReadOptions {
  /**
   * False in a worker that got the buffer from a thread that has already verified it. Default true.
   */
  readonly verifiesChecksum?: boolean;
}

/**
 * Opens a compiled tokenizer. Reads nothing but the header, the small part and, unless told
 * otherwise, the checksum.
 *
 * @param buffer borrowed for the life of the tables, which are views over it.
 * @throws CompiledTokenizerError when the file is foreign, of another version, truncated or
 *   damaged.
 */
export function readCompiledTokenizer(
  buffer: ArrayBuffer | SharedArrayBuffer,
  options: ReadOptions = {},
): TokenizerTables {
  const file = new Uint8Array(buffer);
  const view = new DataView(buffer);
  checkHeader(file, view);
  if (
    (options.verifiesChecksum ?? true) &&
    view.getBigUint64(CHECKSUM_AT, true) !== checksumOf(file)
  ) {
    throw new CompiledTokenizerError('compiled tokenizer: damaged, its checksum does not match');
  }
  const sectionAt = (index: number): { offset: number; bytes: number } => {
    const entry = HEADER_BYTES + index * SECTION_ENTRY_BYTES;
    const offset = view.getUint32(entry, true);
    const bytes = view.getUint32(entry + 4, true);
    if (offset % ALIGNMENT !== 0 || offset + bytes > file.length) {
      throw new CompiledTokenizerError(
        `compiled tokenizer: section ${index} lies outside the file`,
      );
    }
    return { offset, bytes };
  };
  const words = <T>(name: (typeof SECTIONS)[number], array: ArrayType<T>): T => {
    const { offset, bytes } = sectionAt(1 + SECTIONS.indexOf(name));
    if (bytes % array.BYTES_PER_ELEMENT !== 0) {
      throw new CompiledTokenizerError(`compiled tokenizer: section ${name} has a broken length`);
    }
    return new array(buffer, offset, bytes / array.BYTES_PER_ELEMENT);
  };
  const tables: TokenizerTables = {
    meta: readMeta(file, sectionAt(0)),
    unitRoutes: words('unitRoutes', Uint16Array),
    astralPages: words('astralPages', Uint16Array),
    astralRoutes: words('astralRoutes', Uint16Array),
    specialFlags: words('specialFlags', Uint8Array),
    specialCodes: words('specialCodes', Uint16Array),
    specialSpans: words('specialSpans', Uint32Array),
    replacements: words('replacements', Uint16Array),
    pairKeys: words('pairKeys', Uint32Array),
    pairSpans: words('pairSpans', Uint32Array),
    graphemePages: words('graphemePages', Uint16Array),
    graphemeBits: words('graphemeBits', Uint16Array),
    trie: words('trie', Int32Array),
    scores: words('scores', Float64Array),
    pieceBlocks: words('pieceBlocks', Uint32Array),
    pieceStarts: words('pieceStarts', Uint16Array),
    pieceBytes: words('pieceBytes', Uint8Array),
  };
  checkSizes(tables);
  return tables;
}

interface ArrayType<T> {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBuffer | SharedArrayBuffer, offset: number, length: number): T;
}

function checkHeader(file: Uint8Array, view: DataView): void {
  const sections = SECTIONS.length + 1;
  const magic = String.fromCharCode(...file.subarray(0, MAGIC.length));
  if (magic !== MAGIC) throw new CompiledTokenizerError('compiled tokenizer: not such a file');
  if (file.length < HEADER_BYTES + sections * SECTION_ENTRY_BYTES) {
    throw new CompiledTokenizerError(`compiled tokenizer: truncated to ${file.length} bytes`);
  }
  const version = view.getUint32(8, true);
  if (version !== COMPILED_FORMAT_VERSION) {
    throw new CompiledTokenizerError(
      `compiled tokenizer: format ${version}, this program reads ${COMPILED_FORMAT_VERSION}`,
    );
  }
  const length = view.getBigUint64(CHECKSUM_FROM, true);
  if (length !== BigInt(file.length)) {
    throw new CompiledTokenizerError(
      `compiled tokenizer: truncated, ${file.length} bytes of ${length}`,
    );
  }
  if (view.getUint32(12, true) !== sections) {
    throw new CompiledTokenizerError('compiled tokenizer: another count of sections');
  }
}

function readMeta(file: Uint8Array, section: { offset: number; bytes: number }): TokenizerMeta {
  // A copy, because a decoder refuses views over shared memory.
  const bytes = file.slice(section.offset, section.offset + section.bytes);
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw new CompiledTokenizerError('compiled tokenizer: its description is not JSON', { cause });
  }
}

function checkSizes(tables: TokenizerTables): void {
  const wrong =
    tables.unitRoutes.length !== 0x10000 ||
    tables.astralPages.length !== 0x1000 ||
    tables.specialFlags.length !== tables.specialCodes.length ||
    tables.specialFlags.length !== tables.specialSpans.length ||
    tables.pairKeys.length !== tables.pairSpans.length ||
    tables.graphemePages.length !== 0x1100 ||
    tables.pieceStarts.length !== tables.meta.vocabularySize + 1;
  if (wrong) throw new CompiledTokenizerError('compiled tokenizer: sections of unequal length');
}

function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** Guards against damage, not against forgery: 64 bits of xxHash over everything behind it. */
function checksumOf(file: Uint8Array): bigint {
  return BigInt(Bun.hash.xxHash64(file.subarray(CHECKSUM_FROM) as Uint8Array<ArrayBuffer>));
}
