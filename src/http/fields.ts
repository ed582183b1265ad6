import { ServerError } from '../base/errors.ts';
import { likelyName } from '../base/likely-name.ts';
import { shortened } from '../base/shortened.ts';
import type { Schema } from './document.ts';

/**
 * The fields of a request body. A call describes its body once, as a table of fields; the table
 * checks the body, types what was read, and is what the OpenAPI document says of it.
 */

/** One field: its check, and its JSON schema. */
export interface Field<Value> {
  readonly schema: Schema;
  readonly isRequired: boolean;
  /** The fields of an object. */
  readonly table?: FieldTable;
  /**
   * @param value what the body holds; undefined where it holds nothing.
   * @param at the name of the field in errors: `query`, `parameters.truncate`.
   * @throws ServerError EMB_FIELD_MISSING, EMB_FIELD_INVALID, or what the kind of field says.
   */
  read(value: unknown, at: string): Value;
}

/** The fields of a body, by name. They are checked in this order. */
export type FieldTable = Readonly<Record<string, Field<unknown>>>;

/** What a table reads. */
export type ValuesOf<Table extends FieldTable> = {
  readonly [Name in keyof Table]: Table[Name] extends Field<infer Value> ? Value : never;
};

/**
 * Makes the reader of a body.
 *
 * @param unknown what is done with fields that are not in the table.
 * @throws ServerError for the first field that is wrong; EMB_FIELD_UNKNOWN; EMB_FIELD_INVALID when
 * the body is no object.
 */
export function readerOf<Table extends FieldTable>(
  table: Table,
  unknown: 'ignored' | 'refused' = 'ignored',
): (body: unknown) => ValuesOf<Table> {
  const entries = Object.entries(table);
  return (body) => {
    const fields = mapOf(body, 'body');
    if (unknown === 'refused') refuseUnknown(fields, table);
    return valuesOf<Table>(entries, fields, '');
  };
}

/** A mistyped field would have its default, and the caller other vectors than were asked for. */
function refuseUnknown(fields: Readonly<Record<string, unknown>>, table: FieldTable): void {
  for (const name in fields) {
    if (Object.hasOwn(table, name)) continue;
    const known = Object.keys(table);
    const shown = shortened(name);
    const meant = likelyName(name, known);
    const advice = meant === undefined ? `known are ${known.join(', ')}.` : `is "${meant}" meant?`;
    const message = `There is no field "${shown}": ${advice}`;
    const limit = meant ?? known.join(', ');
    throw new ServerError('EMB_FIELD_UNKNOWN', message, { field: shown, limit });
  }
}

/** The schema of a body. */
export function schemaOf(table: FieldTable, unknown: 'ignored' | 'refused' = 'ignored'): Schema {
  const entries = Object.entries(table);
  const required = entries.filter(([, field]) => field.isRequired).map(([name]) => name);
  return {
    type: 'object',
    ...(required.length === 0 ? {} : { required }),
    properties: Object.fromEntries(entries.map(([name, { schema }]) => [name, schema])),
    ...(unknown === 'refused' ? { additionalProperties: false } : {}),
  };
}

function valuesOf<Table extends FieldTable>(
  entries: readonly (readonly [string, Field<unknown>])[],
  fields: Readonly<Record<string, unknown>>,
  prefix: string,
): ValuesOf<Table> {
  const values: Record<string, unknown> = {};
  for (const [name, field] of entries) values[name] = field.read(fields[name], prefix + name);
  return values as ValuesOf<Table>;
}

/** An object with fields of its own. Absent or null, it counts as empty. */
export function object<Table extends FieldTable>(table: Table): Field<ValuesOf<Table>> {
  const entries = Object.entries(table);
  const isRequired = entries.some(([, field]) => field.isRequired);
  const schema = { ...schemaOf(table), ...(isRequired ? {} : { nullable: true }) } as Schema;
  const read = (value: unknown, at: string): ValuesOf<Table> =>
    valuesOf<Table>(entries, mapOf(value ?? {}, at), `${at}.`);
  return { schema, isRequired, read, table };
}

/** A field that may be absent or null, and is undefined then. */
export function optional<Value>(
  field: Field<Value>,
  description?: string,
): Field<Value | undefined> {
  return optionalField(field, undefined, description);
}

/** A field that may be absent or null, and has a default then. */
export function withDefault<Value>(
  field: Field<Value>,
  value: Value,
  description?: string,
): Field<Value> {
  return optionalField(field, value, description);
}

function optionalField<Value, Default>(
  { schema, read }: Field<Value>,
  absent: Default,
  description: string | undefined,
): Field<Value | Default> {
  const nullable = 'enum' in schema ? { enum: [...(schema.enum ?? []), null] } : {};
  return {
    schema: {
      ...schema,
      ...nullable,
      nullable: true,
      ...(description === undefined ? {} : { description }),
    },
    isRequired: false,
    read: (value, at) => (value === undefined || value === null ? absent : read(value, at)),
  };
}

/** True or false. */
export const BOOLEAN: Field<boolean> = {
  schema: { type: 'boolean' },
  isRequired: true,
  read(value, at) {
    if (typeof value === 'boolean') return value;
    throw invalidWord(at, 'true or false', value);
  },
};

/** Any string, the empty one too. */
export const STRING: Field<string> = {
  schema: { type: 'string' },
  isRequired: true,
  read(value, at) {
    if (typeof value === 'string') return value;
    throw invalid(at, 'a string', value);
  },
};

/** A whole number within bounds, both included. */
export function integer({ min, max }: { min: number; max: number }): Field<number> {
  return {
    schema: { type: 'integer', minimum: min, maximum: max },
    isRequired: true,
    read(value, at) {
      const isInside =
        typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max;
      if (isInside) return value;
      throw invalidWord(at, `a whole number from ${min} to ${max}`, value, max);
    },
  };
}

/** One of some words. */
export function oneOf<const Word extends string>(words: readonly Word[]): Field<Word> {
  const wanted = `one of ${quoted(words)}`;
  return {
    schema: { type: 'string', enum: [...words] },
    isRequired: true,
    read(value, at) {
      const word = words.find((known) => known === value);
      if (word !== undefined) return word;
      throw invalidWord(at, wanted, value);
    },
  };
}

/**
 * A list of at least one of some words.
 *
 * @param offered the words that the document shows: those of `words` that work on this server.
 */
export function someOf<const Word extends string>(
  words: readonly Word[],
  offered: readonly Word[] = words,
): Field<readonly Word[]> {
  const wanted = `an array of ${quoted(words)}`;
  return {
    schema: { type: 'array', items: { type: 'string', enum: [...offered] }, minItems: 1 },
    isRequired: true,
    read(value, at) {
      if (!Array.isArray(value) || value.length === 0) throw invalidWord(at, wanted, value);
      const unknown = value.findIndex((item) => !words.includes(item));
      if (unknown >= 0) {
        throw invalidWord(`${at}[${unknown}]`, `one of ${quoted(words)}`, value[unknown]);
      }
      return value as Word[];
    },
  };
}

/** A map of names to values. @throws ServerError EMB_FIELD_INVALID for anything else. */
export function mapOf(value: unknown, at: string): Readonly<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Readonly<Record<string, unknown>>;
  }
  throw invalid(at, 'an object', value);
}

/** That a field is not there. */
export function missing(field: string): ServerError {
  return new ServerError('EMB_FIELD_MISSING', `The field "${field}" is missing.`, { field });
}

/** The same as `invalid` for a field that holds a word and no text: the message shows it. */
export function invalidWord(
  field: string,
  wanted: string,
  value: unknown,
  limit?: number,
): ServerError {
  if (typeof value !== 'string') return invalid(field, wanted, value, limit);
  const said = shortened(value);
  const details = { field, limit: limit ?? wanted, value: said };
  return new ServerError(
    'EMB_FIELD_INVALID',
    `${field} must be ${wanted}, not "${said}".`,
    details,
  );
}

/**
 * That a field has the wrong type or value. The message names the type of what came, never a text.
 *
 * @param limit what the error's `limit` says, where that is less than all that is wanted.
 */
export function invalid(
  field: string,
  wanted: string,
  value: unknown,
  limit?: number,
): ServerError {
  const said = typeof value === 'number' ? String(value) : nameOfType(value);
  return new ServerError('EMB_FIELD_INVALID', `${field} must be ${wanted}, not ${said}.`, {
    field,
    limit: limit ?? wanted,
    value: typeof value === 'number' && Number.isFinite(value) ? value : said,
  });
}

function nameOfType(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return value.length === 0 ? 'an empty array' : 'an array';
  if (value instanceof Uint8Array) return 'binary data';
  if (typeof value === 'boolean') return String(value);
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}

function quoted(words: readonly string[]): string {
  return words.map((word) => `"${word}"`).join(', ');
}
