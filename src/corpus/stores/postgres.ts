import { SQL } from 'bun';
import { CorpusError } from '../corpus-error.ts';

/** Whether it names a database rather than files or a bucket. */
export function isPostgresAddress(address: string): boolean {
  return /^postgres(ql)?:\/\//.test(address);
}

/** A password behind a name, or among the settings of the address. */
const PASSWORD = /:\/\/[^/?#]*:[^?#]*@|[?&][^=&]*pass[^=&]*=/i;

/** Whether the address of a database has a password in it. */
export function hasPassword(address: string): boolean {
  return isPostgresAddress(address) && PASSWORD.test(address);
}

/**
 * An address as it may be shown and stored: without the name and whatever password it has. A
 * password may have any letter in it, so all is left out up to the last @.
 */
export function shownAddress(address: string): string {
  if (!isPostgresAddress(address)) return address;
  const [place = '', settings] = address.split(/\?(?=[^?@]*$)/, 2);
  const kept = (settings ?? '').split('&').filter((one) => one !== '' && !/^[^=]*pass/i.test(one));
  const shown = place.replace(/(?<=:\/\/).*@/s, '');
  return kept.length === 0 ? shown : `${shown}?${kept.join('&')}`;
}

/** @throws CorpusError CORPUS_FLAG_INVALID when it is no address; it is never shown. */
export function openDatabase(address: string, options: { max: number }): SQL {
  try {
    return new SQL(address, { ...options, bigint: true });
  } catch (error) {
    const message =
      'no address like postgres://user@host/database; a password comes by PGPASSWORD, or with ' +
      'each of its special letters written as %40 is for @.';
    throw new CorpusError('CORPUS_FLAG_INVALID', message, error);
  }
}

/** Names that dots part; one in double quotes may have dots in it, as in SQL. */
const NAMES = /^(?:"(?:[^"]|"")+"|[^".]+)(?:\.(?:"(?:[^"]|"")+"|[^".]+))*$/;

/** The names of a table: its schema's where it has one, and its own. */
export function namesOfTable(table: string): readonly string[] {
  if (!NAMES.test(table)) return table.split('.');
  const names = table.match(/"(?:[^"]|"")+"|[^".]+/g) ?? [];
  return names.map((name) =>
    name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name,
  );
}

/** A table's name as SQL takes it, with its schema where it has one. */
export function quoteTable(table: string): string {
  return namesOfTable(table).map(quoteName).join('.');
}

/** A column's name as SQL takes it. */
export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** Without a length in brackets, these would cut a value to one letter or one bit. */
const CASTS: Readonly<Record<string, string>> = { character: 'bpchar', bit: 'varbit' };

/** A type as `::` takes it, for values of any length. */
export function castOf(type: string): string {
  return CASTS[type] ?? type;
}

/** Bytes of a name; Postgres cuts longer ones in silence. */
const NAME_BYTES_MAX = 63;

/** A table beside another one, whose name says what it is: `laws_embed_parts`. */
export function tableBeside(table: string, ending: string): string {
  const names = namesOfTable(table);
  const own = `${names.at(-1)}_${ending}`;
  // Of two long names that end differently, one would be left.
  const hash = Bun.hash.xxHash64(own).toString(36);
  const isLong = Buffer.byteLength(own) > NAME_BYTES_MAX;
  return [...names.slice(0, -1), isLong ? `embed_${hash}` : own].map(quoteName).join('.');
}
