import type { Cancellation } from '../base/clock.ts';
import { ServerError } from '../base/errors.ts';
import type { TokenizedText } from '../tokenizer/pool/tokenizer-pool.ts';
import type { EncodeRequest, Parts } from './contract.ts';
import { areEqual } from './row-cache.ts';

/**
 * Texts of which nothing is left: no character, or only such as the model's normalizer takes for
 * blanks (line ends, no-break and zero-width spaces, a byte order mark, U+FFFD). To the model they
 * are one text and get one vector, which is near to those of all short texts.
 *
 * What counts as blank is the tokenizer's to say and no list of ours: a text is empty when its
 * token ids are those of the empty string or of a space, behind the same prefix.
 *
 * This is the one place that decides what becomes of them. Every API and the corpus go by it.
 */

/** The empty texts of a request, and what is done with them. */
export interface FoundEmpty {
  readonly flags: readonly boolean[];
  /** They have no row, and are not computed. */
  readonly areSkipped: boolean;
}

/** The row of a text that has none. */
export const NO_ROW: Float32Array = new Float32Array(0);

type Prefix = EncodeRequest['inputType'];

/** Finds empty texts. It must learn from the tokenizer first what they look like. */
export class EmptyTexts {
  readonly #tokenizer: Parts['tokenizer'];
  readonly #prefixes: Parts['manifest']['prefixes'];
  readonly #policy: Parts['limits']['emptyTexts'];
  #known: Readonly<Record<Prefix, readonly Int32Array[]>> | undefined;

  constructor({ tokenizer, manifest, limits }: Parts) {
    this.#tokenizer = tokenizer;
    this.#prefixes = manifest.prefixes;
    this.#policy = limits.emptyTexts;
  }

  get isLearned(): boolean {
    return this.#known !== undefined;
  }

  /** @throws ServerError as the tokenizer; the next request tries again. */
  async learn(lifetime: Cancellation): Promise<void> {
    const { query, passage } = this.#prefixes;
    const texts = [query, `${query} `, passage, `${passage} `];
    const tokenized = await this.#tokenizer.tokenize(texts, lifetime);
    const ids = tokenized.map(({ tokenIds }) => tokenIds);
    this.#known = { query: ids.slice(0, 2), passage: ids.slice(2) };
  }

  /**
   * @returns undefined when no text is empty.
   * @throws ServerError EMB_TEXT_EMPTY when they are refused; it names the first one's field.
   */
  find(request: EncodeRequest, tokenized: readonly TokenizedText[]): FoundEmpty | undefined {
    const { inputType, firstInputType = inputType } = request;
    const isEmpty = ({ tokenIds }: TokenizedText, index: number): boolean => {
      const known = this.#known?.[index === 0 ? firstInputType : inputType];
      return known?.some((ids) => areEqual(ids, tokenIds)) ?? false;
    };
    const first = tokenized.findIndex(isEmpty);
    if (first < 0) return undefined;
    if (this.#policy === 'refuse') throw refusal(request.fieldOf(first));
    const flags = tokenized.map(isEmpty);
    return { flags, areSkipped: this.#policy === 'null' && request.needsEveryRow !== true };
  }
}

function refusal(field: string): ServerError {
  const message = `${field} is empty: it has no character that the model sees, and EMPTY_TEXTS is refuse.`;
  return new ServerError('EMB_TEXT_EMPTY', message, { field, limit: 1, value: 0 });
}
