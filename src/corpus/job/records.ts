import type { RawRecord, TextGroup } from '../sources/source.ts';

/** Which fields of a record are what; a dot goes into an object: `body.text`. */
export interface RecordFields {
  /** The texts; several are joined by a line end. */
  readonly text: readonly string[];
  /** Undefined: the number of the row, from 0. */
  readonly id: string | undefined;
  /** Written through to the output. */
  readonly carry: readonly string[];
}

/** What may stand in the place of an id. */
export type RecordId = string | number | bigint | null;

/** One text and what belongs to it. */
export interface CorpusRecord {
  readonly id: RecordId;
  /** Empty where there is a fault. */
  readonly text: string;
  /** Why there is nothing to encode, as `CODE: words`. */
  readonly fault: string | undefined;
  /** In the order of the fields that are carried. */
  readonly carried: readonly unknown[];
  readonly group: TextGroup | undefined;
  /** Of a chunk: whether the next row has the rest of the same record's text. */
  readonly isContinued?: boolean;
}

const NOTHING: readonly unknown[] = [];

/** Reads records of one job. @param fields each is split once, not once a record. */
export function createRecordReader(
  fields: RecordFields,
): (raw: RawRecord, row: number) => CorpusRecord {
  const textPaths = fields.text.map(pathOf);
  const idPath = fields.id === undefined ? undefined : pathOf(fields.id);
  const carryPaths = fields.carry.map(pathOf);
  const named = fields.text.join(' and ');
  const [onlyPath] = textPaths.length === 1 ? textPaths : [];
  return (raw, row) => {
    const { group } = raw;
    const id = idPath === undefined ? row : idOf(valueAt(raw.fields, idPath));
    const carried =
      carryPaths.length === 0
        ? NOTHING
        : carryPaths.map((path) => fittingOf(valueAt(raw.fields, path)) ?? null);
    if (raw.fields === undefined) {
      return { id, text: '', fault: `EMB_BODY_MALFORMED: ${raw.fault}`, carried, group };
    }
    if (onlyPath !== undefined) {
      const text = valueAt(raw.fields, onlyPath);
      // Nearly every record, without the lists that several fields need.
      if (typeof text === 'string' && text !== '' && text.isWellFormed()) {
        return { id, text, fault: undefined, carried, group };
      }
    }
    const found = textPaths.map((path) => onlyOne(valueAt(raw.fields, path)));
    const texts = found.filter((value) => value !== undefined && value !== null);
    const fault = faultOf(texts, named);
    return { id, text: fault === undefined ? texts.join('\n') : '', fault, carried, group };
  };
}

/** What the server would refuse, found before it is asked. */
function faultOf(texts: readonly unknown[], named: string): string | undefined {
  if (texts.length === 0) return `EMB_FIELD_MISSING: the record has no ${named}`;
  const wrong = texts.find((value) => typeof value !== 'string');
  if (wrong instanceof Uint8Array) return `EMB_TEXT_NOT_UNICODE: ${named} is not UTF-8`;
  if (wrong !== undefined) {
    return `EMB_FIELD_INVALID: ${named} is ${Array.isArray(wrong) ? 'an array' : `a ${typeof wrong}`}`;
  }
  if (texts.every((value) => value === '')) return `EMB_TEXT_EMPTY: ${named} is empty`;
  if (texts.some((value) => !(value as string).isWellFormed())) {
    return `EMB_TEXT_NOT_UNICODE: ${named} has half of a surrogate pair`;
  }
  return undefined;
}

/** A list of one text is that text: clients of OpenAI send such lists. */
function onlyOne(value: unknown): unknown {
  return Array.isArray(value) && value.length === 1 ? value[0] : value;
}

function pathOf(field: string): readonly string[] {
  return field.split('.');
}

function valueAt(fields: RawRecord['fields'], path: readonly string[]): unknown {
  // A field whose name has a dot in it is found too.
  if (path.length > 1 && fields !== undefined) {
    const whole = fields[path.join('.')];
    if (whole !== undefined) return whole;
  }
  let value: unknown = fields;
  for (const name of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = (value as Record<string, unknown>)[name];
  }
  return value;
}

function idOf(given: unknown): RecordId {
  const value = fittingOf(given);
  if (value === undefined || value === null) return null;
  if (typeof value === 'string' || typeof value === 'bigint') return value;
  return typeof value === 'number' ? value : plainJson(value);
}

/**
 * Of an integer that 64 bits do not hold, its digits: in a column it would be another one. Bytes
 * are written as Postgres writes them.
 */
function fittingOf(value: unknown): unknown {
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value).toString('hex')}`;
  if (typeof value !== 'bigint' || BigInt.asIntN(64, value) === value) return value;
  return String(value);
}

/** A number by its digits; the types of the language do not know it yet. */
const { rawJSON } = JSON as JSON & { readonly rawJSON: (digits: string) => unknown };

/** JSON of anything that a source gives: integers of 64 bits as their digits. */
export function plainJson(value: unknown): string {
  try {
    return JSON.stringify(value);
  } catch {
    return JSON.stringify(value, (_, inner: unknown) =>
      typeof inner === 'bigint' ? rawJSON(String(inner)) : inner,
    );
  }
}

/** What a column of the output holds. */
export type ColumnKind = 'int64' | 'double' | 'boolean' | 'string' | 'json';

/** The narrowest kind for one more value, given the kind of those before. */
export function widenKind(kind: ColumnKind | undefined, value: unknown): ColumnKind | undefined {
  if (value === null || value === undefined || kind === 'json') return kind;
  const own = kindOf(value);
  if (kind === undefined || kind === own) return own;
  const isNumeric = (name: ColumnKind): boolean => name === 'int64' || name === 'double';
  return isNumeric(kind) && isNumeric(own) ? 'double' : 'json';
}

function kindOf(value: unknown): ColumnKind {
  if (typeof value === 'string') return 'string';
  if (typeof value === 'boolean') return 'boolean';
  if (typeof value === 'bigint') return 'int64';
  if (typeof value === 'number') return Number.isSafeInteger(value) ? 'int64' : 'double';
  return 'json';
}

/** A value as its column holds it; null stays. */
export function columnValue(
  kind: ColumnKind,
  value: unknown,
): string | number | bigint | boolean | null {
  if (value === null || value === undefined) return null;
  if (kind === 'json') return plainJson(value);
  if (kind === 'string') return String(value);
  if (kind === 'boolean') return value === true;
  return kind === 'int64' ? BigInt(value as number | bigint) : Number(value);
}
