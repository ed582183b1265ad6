import { ServerError } from '../base/errors.ts';

/** A decoded body that is a map of fields. */
export type Fields = Readonly<Record<string, unknown>>;

/** @throws ServerError EMB_FIELD_INVALID when the body, or the `field` in it, is no object. */
export function fieldsOf(value: unknown, field = 'body'): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw invalid(field, 'an object', value);
}

/** An integer within bounds; undefined when the field is absent or null. */
export function optionalInteger(
  fields: Fields,
  field: string,
  range: { min: number; max: number },
): number | undefined {
  const value = fields[field];
  if (value === undefined || value === null) return undefined;
  const isInside =
    typeof value === 'number' &&
    Number.isInteger(value) &&
    value >= range.min &&
    value <= range.max;
  if (isInside) return value;
  throw invalid(field, `a whole number from ${range.min} to ${range.max}`, value, range.max);
}

/** A boolean; undefined when the field is absent or null. */
export function optionalBoolean(fields: Fields, field: string): boolean | undefined {
  const value = fields[field];
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'boolean') return value;
  throw invalid(field, 'true or false', value);
}

/** Any string; undefined when the field is absent or null. */
export function optionalText(fields: Fields, field: string): string | undefined {
  const value = fields[field];
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'string') return value;
  throw invalid(field, 'a string', value);
}

/** One of some words; undefined when the field is absent or null. */
export function optionalWord<const Word extends string>(
  fields: Fields,
  field: string,
  words: readonly Word[],
): Word | undefined {
  const value = fields[field];
  if (value === undefined || value === null) return undefined;
  const word = words.find((known) => known === value);
  if (word !== undefined) return word;
  throw invalid(field, `one of ${words.map((known) => `"${known}"`).join(', ')}`, value);
}

/** A list of some words, none twice, at least one; undefined when the field is absent or null. */
export function optionalWords<const Word extends string>(
  fields: Fields,
  field: string,
  words: readonly Word[],
): readonly Word[] | undefined {
  const value = fields[field];
  if (value === undefined || value === null) return undefined;
  const wanted = `an array of ${words.map((known) => `"${known}"`).join(', ')}`;
  if (!Array.isArray(value) || value.length === 0) throw invalid(field, wanted, value);
  const unknown = value.findIndex((item) => !words.includes(item));
  if (unknown >= 0) throw invalid(`${field}[${unknown}]`, wanted, value[unknown]);
  return value as Word[];
}

/** The texts of a field, and whether they came as one string. */
export interface Texts {
  readonly texts: readonly string[];
  readonly isSingle: boolean;
}

/**
 * A string, or an array of strings: present, not empty, not too many, well-formed Unicode.
 *
 * @throws ServerError EMB_FIELD_MISSING, EMB_FIELD_INVALID, EMB_TEXT_EMPTY, EMB_TEXTS_TOO_MANY or
 * EMB_TEXT_NOT_UNICODE.
 */
export function requiredTexts(fields: Fields, field: string, textCountMax: number): Texts {
  const value = fields[field];
  if (value === undefined) {
    throw new ServerError('EMB_FIELD_MISSING', `The field "${field}" is missing.`, { field });
  }
  if (typeof value === 'string') {
    checkText(value, field);
    return { texts: [value], isSingle: true };
  }
  if (!Array.isArray(value)) throw invalid(field, 'a string or an array of strings', value);
  if (value.length === 0) {
    const message = `${field} is an empty array; send at least one text.`;
    throw new ServerError('EMB_TEXT_EMPTY', message, { field, limit: 1, value: 0 });
  }
  if (value.length > textCountMax) {
    throw new ServerError(
      'EMB_TEXTS_TOO_MANY',
      `${field} has ${value.length} texts, the limit is ${textCountMax} in one request.`,
      { field, limit: textCountMax, value: value.length },
    );
  }
  for (let index = 0; index < value.length; index++) {
    const text: unknown = value[index];
    if (typeof text !== 'string') throw invalid(`${field}[${index}]`, 'a string', text);
    checkText(text, `${field}[${index}]`);
  }
  return { texts: value as string[], isSingle: false };
}

/** One string, as in `requiredTexts`. */
export function requiredText(value: unknown, field: string): string {
  if (Array.isArray(value)) throw invalid(field, 'a string', value);
  return requiredTexts({ [field]: value }, field, 1).texts[0];
}

/** An array of strings, as in `requiredTexts`. */
export function requiredTextList(
  value: unknown,
  field: string,
  textCountMax: number,
): readonly string[] {
  if (typeof value === 'string') throw invalid(field, 'an array of strings', value);
  return requiredTexts({ [field]: value }, field, textCountMax).texts;
}

function checkText(text: string, field: string): void {
  if (text.length === 0) {
    const message = `${field} is an empty string; send at least one character.`;
    throw new ServerError('EMB_TEXT_EMPTY', message, { field, limit: 1, value: 0 });
  }
  if (!text.isWellFormed()) {
    const at = text.search(LONE_SURROGATE);
    throw new ServerError(
      'EMB_TEXT_NOT_UNICODE',
      `${field} has half of a surrogate pair at character ${at}; it is no Unicode text.`,
      { field, limit: 'well-formed Unicode', value: at },
    );
  }
}

const LONE_SURROGATE = /\p{Surrogate}/u;

/** A field of the wrong type or value. The message names the type of what came, never a text. */
function invalid(field: string, wanted: string, value: unknown, limit?: number): ServerError {
  const said = typeof value === 'number' ? String(value) : nameOfType(value);
  return new ServerError('EMB_FIELD_INVALID', `${field} must be ${wanted}, not ${said}.`, {
    field,
    limit: limit ?? wanted,
    value: typeof value === 'number' && Number.isFinite(value) ? value : said,
  });
}

function nameOfType(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (value instanceof Uint8Array) return 'binary data';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}
