/**
 * A manifest that is missing or wrong. Its message names the file, the field, what it must be and
 * what it is.
 */
export class ManifestError extends Error {
  override readonly name = 'ManifestError';
}

/** One value inside a manifest, together with the path that leads to it: errors name that path. */
export class FieldReader {
  readonly #value: unknown;
  readonly #file: string;
  readonly #path: string;

  /** @param file said at the start of every error. */
  constructor(value: unknown, file: string, path = '') {
    this.#value = value;
    this.#file = file;
    this.#path = path;
  }

  /** @throws ManifestError when this value is no object, or has no such field. */
  field(name: string): FieldReader {
    const field = this.optional(name);
    if (field === undefined) {
      throw new ManifestError(`${this.#file}: "${this.#pathTo(name)}" is missing.`);
    }
    return field;
  }

  /** As `field`; one that is absent or null is undefined. */
  optional(name: string): FieldReader | undefined {
    const value = this.#value;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw this.wrong('an object');
    }
    const inner: unknown = Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined;
    if (inner === undefined || inner === null) return undefined;
    return new FieldReader(inner, this.#file, this.#pathTo(name));
  }

  /** Any string, the empty one too. */
  string(): string {
    if (typeof this.#value !== 'string') throw this.wrong('a string');
    return this.#value;
  }

  /** A string that says something. */
  text(): string {
    const value = this.string();
    if (value.trim() === '') throw this.wrong('a string that is not empty');
    return value;
  }

  /** @param meaning what the pattern stands for, for the error. */
  matching(pattern: RegExp, meaning: string): string {
    const value = this.string();
    if (!pattern.test(value)) throw this.wrong(meaning);
    return value;
  }

  oneOf<const Choice extends string>(choices: readonly Choice[]): Choice {
    const choice = choices.find((candidate) => candidate === this.#value);
    if (choice === undefined) throw this.wrong(`one of ${choices.join(', ')}`);
    return choice;
  }

  boolean(): boolean {
    if (typeof this.#value !== 'boolean') throw this.wrong('true or false');
    return this.#value;
  }

  integer(minimum: number): number {
    const value = this.#value;
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < minimum) {
      throw this.wrong(`an integer of at least ${minimum}`);
    }
    return value;
  }

  list<Item>(lengthMin: number, parseItem: (item: FieldReader) => Item): Item[] {
    if (!Array.isArray(this.#value) || this.#value.length < lengthMin) {
      throw this.wrong(lengthMin === 0 ? 'an array' : `an array of at least ${lengthMin}`);
    }
    return this.#value.map((item: unknown, index) =>
      parseItem(new FieldReader(item, this.#file, `${this.#path}[${index}]`)),
    );
  }

  /** The error for this value, for checks that this class does not know. */
  wrong(expected: string): ManifestError {
    const name = this.#path === '' ? 'the manifest' : `"${this.#path}"`;
    return new ManifestError(
      `${this.#file}: ${name} must be ${expected}, but is ${describe(this.#value)}.`,
    );
  }

  #pathTo(name: string): string {
    return this.#path === '' ? name : `${this.#path}.${name}`;
  }
}

function describe(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  // Enough to recognise it; a whole manifest would bury the message.
  return text.length <= 80 ? text : `${text.slice(0, 77)}...`;
}
